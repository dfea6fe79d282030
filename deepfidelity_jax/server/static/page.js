"use strict";

// One entry of the list for each file of this visit. It is kept in this page's memory alone.

const find = (id) => document.getElementById(id);
const visit = new Set(); // what is still on the server, by path
let limits = null;
let shown = null; // the path of the job whose page is shown

const VERDICTS = {
  real: ["Real", "The faces in it score like real ones. Some fakes pass for real."],
  fake: ["Fake", "The least real face in it scores lower than nearly all real faces do. It may still be real."],
  uncertain: ["Uncertain", "Neither real nor fake is claimed."],
  "no face": ["No face found", "Without a face there is no verdict."],
  unreadable: ["Cannot be read", "Without a picture there is no verdict."],
};

function tell(text) {
  find("news").textContent = text;
}

function add(file) {
  const entry = find("job").content.cloneNode(true).querySelector("li");
  const part = (name) => entry.querySelector(name);
  const state = part(".state"), progress = part("progress");
  const show = part(".show"), remove = part(".remove");
  let path = "", upload = null, stream = null;

  part(".name").textContent = file.name;
  show.setAttribute("aria-label", `Show ${file.name}`);
  progress.setAttribute("aria-label", `Progress of ${file.name}`);
  const name = (action) => {
    remove.textContent = action;
    remove.setAttribute("aria-label", `${action} ${file.name}`);
  };
  name("Cancel");
  remove.onclick = () => {
    const next = entry.nextElementSibling || entry.previousElementSibling;
    if (upload) upload.abort();
    if (stream) stream.close();
    if (path) discard(path);
    entry.remove();
    find("visit").hidden = !find("jobs").children.length;
    tell(`${file.name}: ${remove.textContent === "Cancel" ? "cancelled" : "removed"}`);
    (next ? next.querySelector(".remove") : find("choose")).focus();
  };

  const end = () => {
    upload = null;
    if (stream) stream.close();
    progress.hidden = true;
    name("Remove");
  };
  const fail = (message) => {
    end();
    entry.classList.add("failed");
    state.textContent = message;
    tell(`${file.name}: ${message}`);
  };
  const follow = (job) => {
    if (job.state === "queued") {
      state.textContent = job.position > 1 ? `waiting, ${job.position - 1} ahead` : "waiting";
      progress.removeAttribute("value");
    } else if (job.state === "running") {
      state.textContent = job.step || "scoring";
      if (job.share > 0) progress.value = job.share;
      else progress.removeAttribute("value");
    } else if (job.state === "failed") {
      fail(job.error.message);
    } else if (job.state === "cancelled") {
      fail("cancelled");
    } else {
      end();
      const [title] = VERDICTS[job.prediction.status];
      state.textContent = title;
      state.classList.add(job.prediction.status.replace(" ", "-"));
      show.hidden = false;
      show.onclick = () => present(job, path, true);
      tell(`${file.name}: ${title}`);
      present(job, path, false);
    }
  };

  find("jobs").prepend(entry);
  find("visit").hidden = false;
  if (limits && file.size > limits.bytes) {
    fail(`the file has more than ${limits.bytes / 2 ** 20} MiB`);
    return;
  }
  state.textContent = "uploading";
  upload = send(file, (share) => { progress.value = share; }, (status, answer) => {
    upload = null;
    if (status !== 202) {
      fail(answer.error.message);
      return;
    }
    path = `/api/jobs/${answer.id}`;
    visit.add(path);
    follow(answer);
    stream = new EventSource(`${path}/events`);
    stream.onmessage = (event) => follow(JSON.parse(event.data));
    stream.onerror = () => {
      // The browser tries again by itself, unless the server says that there is no such job.
      if (stream.readyState === EventSource.CLOSED) fail("the server no longer has this file");
      else state.textContent = "the server does not answer";
    };
  });
}

function send(file, advance, answered) {
  const form = new FormData(), request = new XMLHttpRequest();
  form.append("file", file);
  request.open("POST", "/api/jobs");
  request.upload.onprogress = (event) => advance(event.loaded / event.total);
  request.onload = () => {
    let answer = { error: { message: `the server answered ${request.status}` } };
    try { answer = JSON.parse(request.responseText); } catch { /* no answer of ours */ }
    answered(request.status, answer);
  };
  request.onerror = () => answered(0, { error: { message: "the upload was cut off" } });
  request.send(form);
  return request;
}

function present(job, path, asked) {
  const { status, fidelity, threshold } = job.prediction;
  const [title, meaning] = VERDICTS[status];
  const scores = fidelity === null ? "" :
    ` Fidelity ${fidelity.toFixed(3)}; the threshold for real is ${threshold.toFixed(3)}.`;
  shown = path;
  find("result").hidden = false;
  find("result-title").textContent = `${title}: ${job.name}`;
  find("result-title").className = status.replace(" ", "-");
  find("result-meaning").textContent = meaning + scores;
  find("result-tab").href = find("result-page").src = job.page;
  if (asked) {
    find("result").focus();
    find("result").scrollIntoView();
  }
}

function discard(path) {
  visit.delete(path);
  fetch(path, { method: "DELETE", keepalive: true }).catch(() => {});
  if (shown === path) {
    find("result").hidden = true;
    find("result-page").removeAttribute("src");
  }
}

function take(files) {
  for (const file of files) add(file);
}

find("choose").onclick = () => find("files").click();
find("files").onchange = (event) => {
  take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
};
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault(); // else the browser opens the file
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
// The visit ends with the page: what it left on the server goes, too.
window.addEventListener("pagehide", () => [...visit].forEach(discard));
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

fetch("/api/limits").then((answer) => answer.json()).then((told) => {
  limits = told;
  find("limits").textContent =
    `Up to ${told.bytes / 2 ** 20} MiB a file; videos of up to ${told.video_seconds / 60} minutes.`;
  find("kept").textContent = told.kept_seconds / 60;
});
