// The front page: ask, watch, land on the report. Without this script the form is sent as it is.
"use strict";
(() => {
  const KEY = "graddx-key";
  const at = (id) => document.getElementById(id);
  const key = () => sessionStorage.getItem(KEY);

  // Every call goes with the key, where there is one; a server that wants one is given it.
  async function call(path, options = {}) {
    const headers = new Headers(options.headers || {});
    const shown = key();
    if (shown) headers.set("Authorization", `Bearer ${shown}`);
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401) return answer;
    if (key() === shown) await givenKey(); // else another call was given one meanwhile
    return call(path, options);
  }

  // Asked for once, however many calls wait for it.
  let asking = null;
  function givenKey() {
    asking ??= new Promise((resolve) => {
      const form = at("key");
      sessionStorage.removeItem(KEY);
      form.hidden = false;
      at("key-text").focus();
      const take = (event) => {
        event.preventDefault();
        sessionStorage.setItem(KEY, at("key-text").value.trim());
        at("key-text").value = "";
        form.hidden = true;
        asking = null;
        resolve();
      };
      form.addEventListener("submit", take, { once: true });
    });
    return asking;
  }

  async function refused(answer) {
    const problem = await answer.json().catch(() => ({}));
    const told = (problem.errors || []).map((one) => `${one.pointer || one.parameter}: ${one.detail}`);
    return new Error([problem.detail || answer.statusText, ...told.slice(1)].join("\n"));
  }

  // A page of this server: opened as it is, or with the key, which an address cannot carry.
  function open(path) {
    if (key()) location.hash = path;
    else location.assign(path);
  }

  async function showHere() {
    const path = location.hash.slice(1);
    if (!path.startsWith("/v1/")) return;
    const answer = await call(path, { headers: { Accept: "text/html" } });
    if (!key()) return location.replace(path);
    if (!answer.ok) return trouble(await refused(answer));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = page.title;
    document.body.replaceChildren(...page.body.querySelectorAll(":scope > :not(script)"));
    window.graddxCopyButtons(document);
    scrollTo(0, 0);
    if (answer.status === 202) setTimeout(showHere, 1000);
  }

  async function follow(event) {
    const link = event.target.closest("a[href^='/v1/']");
    if (!link || !key()) return;
    event.preventDefault();
    const path = link.getAttribute("href");
    if (/\/report$|\/history\?/.test(path)) return open(path);
    const answer = await call(path);
    if (!answer.ok) return alert((await refused(answer)).message);
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
    const file = document.createElement("a");
    file.href = URL.createObjectURL(await answer.blob());
    file.download = name ? name[1] : path.split(/[/?]/).filter((one) => one.includes(".")).pop() || "graddx";
    file.click();
    URL.revokeObjectURL(file.href);
  }

  function trouble(error) {
    const box = at("trouble");
    if (!box) return;
    box.hidden = false;
    box.textContent = error.message;
  }

  // Server-Sent Events; EventSource cannot send a key.
  async function* events(path) {
    const answer = await call(path, { headers: { Accept: "text/event-stream" } });
    if (!answer.ok) throw await refused(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = /^data: ?(.*)$/m.exec(part);
        if (data) yield JSON.parse(data[1]);
      }
    }
  }

  async function watch(analysis) {
    at("watch").hidden = false;
    at("cancel").hidden = false;
    at("cancel").onclick = () => call(`/v1/analyses/${analysis}`, { method: "DELETE" });
    for await (const now of events(`/v1/analyses/${analysis}/events`)) {
      at("percent").value = now.percent;
      const ahead = now.queue_position ? `, ${now.queue_position} ahead` : "";
      at("stage").textContent = now.stage ? `${now.status}: ${now.stage}` : now.status + ahead;
    }
  }

  async function ask(event) {
    event.preventDefault();
    at("trouble").hidden = true;
    const button = event.target.querySelector("button.main");
    button.disabled = true;
    try {
      const form = new FormData(event.target);
      if (!at("model").files.length) form.delete("model");
      const headers = { Accept: "application/json" };
      const answer = await call("/v1/analyses", { method: "POST", body: form, headers });
      if (!answer.ok) throw await refused(answer);
      const analysis = (await answer.json()).id;
      await watch(analysis);
      open(`/v1/analyses/${analysis}/report`);
    } catch (error) {
      trouble(error);
    } finally {
      button.disabled = false;
      at("watch") && (at("watch").hidden = true);
      at("cancel") && (at("cancel").hidden = true);
    }
  }

  // A JSON file is the request itself; of another one only what it takes has to be said.
  async function chosen() {
    const [file] = at("model").files;
    if (!file) return;
    if (file.name.endsWith(".json")) {
      const given = JSON.parse(await file.text());
      const request = given.model || !given.layers ? given : { model: { kind: "spec", ...given } };
      at("request").value = JSON.stringify(request, null, 2);
      at("model").value = "";
    } else if (/"model"/.test(at("request").value)) {
      const inputs = file.name.endsWith(".pt2") ? {} : { probe: { inputs: [{ shape: [3, 32, 32] }] } };
      at("request").value = JSON.stringify(inputs, null, 2);
    }
  }

  function droppable(place) {
    for (const kind of ["dragover", "dragenter"])
      place.addEventListener(kind, (event) => {
        event.preventDefault();
        place.classList.add("over");
      });
    for (const kind of ["dragleave", "drop"])
      place.addEventListener(kind, () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      at("model").files = event.dataTransfer.files;
      chosen().catch(trouble);
    });
  }

  function cell(row, text, kind = "td") {
    const made = document.createElement(kind);
    made.textContent = text;
    row.append(made);
    return made;
  }

  async function recent() {
    const answer = await call("/v1/analyses?limit=12");
    if (!answer.ok) return;
    const { items } = await answer.json();
    const table = at("recent").querySelector("tbody");
    table.replaceChildren();
    for (const one of items) {
      const row = document.createElement("tr");
      const first = cell(row, "", "th");
      first.scope = "row";
      const link = document.createElement("a");
      link.href = `/v1/analyses/${one.id}/report`;
      link.textContent = new Date(one.created_at).toLocaleString();
      first.append(link);
      const verdict = cell(row, "");
      const badge = document.createElement("span");
      badge.className = `badge ${one.verdict || ""}`;
      badge.textContent = (one.verdict || one.status).replace("_", " ");
      verdict.append(badge);
      cell(row, one.model.format || "");
      cell(row, Object.entries(one.labels).map((pair) => pair.join(": ")).join(", "));
      table.append(row);
    }
    at("recent").hidden = !items.length;
  }

  async function example(event) {
    if (!event.target.value) return;
    const answer = await fetch(`/examples/${event.target.value}.json`);
    at("request").value = await answer.text();
    at("model").value = "";
  }

  document.addEventListener("click", follow);
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#/v1/")) showHere();
    else if (!location.hash && !at("ask")) location.reload();
  });
  at("choose").hidden = false;
  at("example").addEventListener("change", (event) => example(event).catch(trouble));
  at("model").addEventListener("change", () => chosen().catch(trouble));
  at("ask").addEventListener("submit", ask);
  at("trend").addEventListener("submit", (event) => {
    if (!key()) return;
    event.preventDefault();
    open(`/v1/layers/history?${new URLSearchParams(new FormData(event.target))}`);
  });
  droppable(at("ask"));
  showHere();
  if (!location.hash) recent();
})();
