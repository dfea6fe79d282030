"""A written page as a reader or a browser has it."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "line", "polyline"}


class Page(HTMLParser):
    """Elements, ids, links, sources, headings and text; AssertionError where tags do not match."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.ids, self.links, self.sources, self.headings = [], [], [], []
        self.alternatives, self.words, self.names, self._open = [], [], [], []
        self.feed(self.html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.names.append(tag)
        self.ids += [own["id"]] if "id" in own else []
        self.links += [own["href"]] if "href" in own else []
        self.sources += [own["src"]] if "src" in own else []
        if tag == "img":
            self.alternatives.append(own.get("alt", ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self._open[-1], data.strip()))
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def assert_sound(page):
    """Self-contained, without a script; every link leads somewhere, every picture has a text."""
    assert "script" not in page.names
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert all(page.alternatives)
    assert [level for level, _ in page.headings].count("h1") == 1
    assert "url(" not in page.html
    assert "@import" not in page.html
