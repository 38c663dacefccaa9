// Fetches the page again every two seconds and swaps the parts marked data-live. Nothing else changes: the form keeps what a person
// types, and the focus goes back to where it was. While somebody works inside a part, or the page is hidden, it stays as it is.
(function () {
  "use strict";
  var every = 2000, limit = 5000, paused = false;
  var live = document.getElementById("live"), pause = document.getElementById("pause"), reload = document.getElementById("reload");
  if (!live || !pause || !window.fetch || !window.DOMParser) { return; }
  try { paused = sessionStorage.getItem("keyward-paused") === "1"; } catch (e) { /* no storage: it begins running */ }
  live.hidden = false; pause.hidden = false; reload.hidden = true;
  function show(fault) {
    var words = paused ? live.dataset.stopped : fault ? live.dataset.fault : live.dataset.running;
    if (live.textContent !== words) { live.textContent = words; }
    live.className = paused ? "off" : fault ? "fault" : "on";
    pause.textContent = paused ? pause.dataset.go : pause.dataset.pause;
  }
  function selecting() {
    var s = window.getSelection();
    return s && !s.isCollapsed;
  }
  function swap(next) {
    document.querySelectorAll("[data-live]").forEach(function (old) {
      var part = next.querySelector('[data-live="' + old.dataset.live + '"]');
      if (!part) { return; }
      var active = document.activeElement, href = old.contains(active) && active.getAttribute("href"), region = old.contains(active) && active.classList.contains("scroll");
      var left = old.querySelector(".scroll") ? old.querySelector(".scroll").scrollLeft : 0;
      old.replaceChildren.apply(old, part.childNodes);
      var box = old.querySelector(".scroll");
      if (box) { box.scrollLeft = left; }
      if (region && box) { box.focus({ preventScroll: true }); }
      if (href) {
        old.querySelectorAll("a").forEach(function (a) { if (a.getAttribute("href") === href) { a.focus({ preventScroll: true }); } });
      }
    });
    var made = document.querySelector("footer"), now = next.querySelector("footer");
    if (made && now) { made.replaceChildren.apply(made, now.childNodes); }
  }
  function tick() {
    if (paused || document.hidden || selecting()) { setTimeout(tick, every); return; }
    var stop = new AbortController(), timer = setTimeout(function () { stop.abort(); }, limit);
    fetch(location.href, { signal: stop.signal, cache: "no-store", credentials: "same-origin" }).then(function (r) {
      if (!r.ok) { throw new Error("status"); }
      return r.text();
    }).then(function (text) {
      if (!paused && !selecting()) { swap(new DOMParser().parseFromString(text, "text/html")); }
      show(false);
    }).catch(function () { show(true); }).then(function () { clearTimeout(timer); setTimeout(tick, every); });
  }
  pause.addEventListener("click", function () {
    paused = !paused;
    try { sessionStorage.setItem("keyward-paused", paused ? "1" : "0"); } catch (e) { /* forgotten with the page */ }
    show(false);
  });
  show(false);
  setTimeout(tick, every);
})();
