"use strict";

// One entry of the list for each file of this visit. It is kept in this page's memory alone.

const find = (id) => document.getElementById(id);
const visit = new Set(); // what is still on the server, by path
let limits = null;
const waiting = new Map(); // what follows each job that has not ended, by path
let shown = null; // the path of the job whose page is shown
let chosen = false; // whether somebody asked for that page: no other one takes its place
let line = Promise.resolve(); // until all files that were added before are sent

const VERDICTS = {
  real: ["Real", "The faces in it score like real ones. Many fakes are not caught."],
  fake: ["Fake", "A face here looks forged to the detector. That is evidence, not proof."],
  uncertain: ["Uncertain", "Neither real nor fake is claimed."],
  "no face": ["No face to score", "Without a face there is no verdict."],
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
  let path = "", interrupt = () => {};

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
    entry.remove();
    interrupt();
    if (path) discard(path);
    find("visit").hidden = !find("jobs").children.length;
    tell(`${file.name}: ${remove.textContent === "Cancel" ? "cancelled" : "removed"}`);
    (next ? next.querySelector(".remove") : find("choose")).focus();
  };

  const end = () => {
    waiting.delete(path);
    progress.hidden = true;
    name("Remove");
  };
  const fail = (message) => {
    end();
    entry.classList.add("failed");
    state.textContent = message;
    tell(`${file.name}: ${message}`);
  };
  const wait = (message) => {
    state.textContent = message;
    progress.removeAttribute("value");
  };
  const follow = (job) => {
    if (job.state === "queued") {
      wait(job.position > 1 ? `waiting, ${job.position - 1} ahead` : "waiting");
    } else if (job.state === "running") {
      wait(job.step || "scoring");
      if (job.share > 0) progress.value = job.share;
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
      show.onclick = async () => {
        const answer = await fetch(path).catch(() => null);
        if (!answer || answer.status !== 404) return present(job, path, true);
        show.hidden = true;
        state.textContent = "the server no longer has this page";
        tell(`${file.name}: ${state.textContent}`);
        remove.focus();
      };
      tell(`${file.name}: ${title}`);
      if (!chosen) present(job, path, false);
    }
  };

  find("jobs").prepend(entry);
  find("visit").hidden = false;
  if (limits && file.size > limits.bytes) {
    fail(`the file has more than ${limits.bytes / 2 ** 20} MiB`);
    return;
  }
  // One after the other, so that only one asks again for room.
  wait("waiting to be sent");
  line = line.then(async () => {
    while (entry.isConnected) {
      state.textContent = "uploading";
      const upload = send(file, (share) => { progress.value = share; });
      interrupt = upload.interrupt;
      const { status, answer, pause } = await upload.answered;
      if (status === 202) {
        path = `/api/jobs/${answer.id}`;
        visit.add(path);
        waiting.set(path, { follow, fail, wait });
        follow(answer);
        return;
      }
      if (!entry.isConnected) return;
      if (!pause) {
        fail(answer.error.message);
        return;
      }
      wait(status === 429 ? "waiting for room" : `${answer.error.message}; trying again`);
      await new Promise((resolve) => {
        interrupt = resolve;
        setTimeout(resolve, 1000 * pause);
      });
    }
  });
}

// The answer to a posted file; `pause`: after how many seconds it may be posted again, if it may.
function send(file, advance) {
  const form = new FormData(), request = new XMLHttpRequest();
  form.append("file", file);
  request.open("POST", "/api/jobs");
  request.upload.onprogress = (event) => advance(event.loaded / event.total);
  const answered = new Promise((resolve) => {
    request.onload = () => {
      const { status } = request;
      let answer = { error: { message: `the server answered ${status}` } };
      try {
        const told = JSON.parse(request.responseText);
        if (told.id || told.error) answer = told;
      } catch { /* no answer of ours */ }
      resolve({ status, answer, pause: Number(request.getResponseHeader("Retry-After")) });
    };
    request.onerror = request.onabort = () =>
      resolve({ status: 0, answer: { error: { message: "the upload was cut off" } }, pause: 0 });
  });
  request.send(form);
  return { answered, interrupt: () => request.abort() };
}

// Asks for one job after the other. A browser opens few connections to a server: with a stream for
// each job, neither uploads nor pages would get one.
async function look() {
  for (const [path, { follow, fail, wait }] of [...waiting]) {
    try {
      const answer = await fetch(path);
      const job = await answer.json();
      if (!waiting.has(path)) continue; // removed meanwhile
      if (answer.ok) follow(job);
      else if (answer.status === 404) fail("the server no longer has this file");
    } catch {
      if (waiting.has(path)) wait("the server does not answer");
    }
  }
  setTimeout(look, 500);
}

function present(job, path, asked) {
  const { status, fidelity, threshold } = job.prediction;
  const [title, meaning] = VERDICTS[status];
  const scores = fidelity === null ? "" :
    ` Fidelity ${fidelity.toFixed(4)}; the threshold for real is ${threshold.toFixed(4)}.`;
  shown = path;
  chosen = asked;
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
  waiting.delete(path);
  fetch(path, { method: "DELETE", keepalive: true }).catch(() => {});
  if (shown === path) {
    find("result").hidden = true;
    find("result-page").removeAttribute("src");
    chosen = false;
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

look();
fetch("/api/limits").then((answer) => answer.json()).then((told) => {
  limits = told;
  find("limits").textContent =
    `Up to ${told.bytes / 2 ** 20} MiB a file; videos of up to ${told.video_seconds / 60} minutes.`;
  find("kept").textContent = told.kept_seconds / 60;
});
