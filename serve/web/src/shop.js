// The storefront's client: htmx fetches parts of pages that the server renders; what is here it
// cannot do. Without scripts every page works by links and forms.
import htmx from "htmx.org/dist/htmx.esm.js";
import { startEvents } from "./events.js";
import { startFacets } from "./facets.js";
import { startPhoto } from "./photo.js";
import { startRetries } from "./retries.js";

const root = document.body.dataset.root;
document.documentElement.classList.add("scripted");

startEvents(root);
startRetries(htmx);
startPhoto(root);
onContent((scope) => startFacets(scope));
onContent(startRails);

// Pictures that do not load leave the tile behind them.
document.addEventListener("error", (event) => {
  if (event.target.matches?.(".picture img")) event.target.remove();
}, true);

// Some have failed before this script ran.
onContent((scope) => {
  for (const image of scope.querySelectorAll(".picture img")) {
    if (image.complete && !image.naturalWidth && image.loading !== "lazy") image.remove();
  }
});

// "/" goes to the search box; the arrows move between it and the suggestions.
document.addEventListener("keydown", (event) => {
  const box = document.getElementById("q");
  const typing = event.target.matches("input, textarea, select");
  if (!box || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing) {
    event.preventDefault();
    box.focus();
    box.select();
  }
  const chips = [...document.querySelectorAll(".suggestions a")];
  const at = chips.indexOf(document.activeElement);
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1 }[event.key];
  if (event.target === box && event.key === "ArrowDown" && chips.length) {
    event.preventDefault();
    chips[0].focus();
  } else if (at >= 0 && next !== undefined) {
    event.preventDefault();
    (next < 0 ? box : chips[Math.min(next, chips.length - 1)]).focus();
  } else if (at >= 0 && event.key === "Escape") {
    box.focus();
  }
});

// Why an item is here: fetched when it is opened.
document.addEventListener("toggle", async (event) => {
  const details = event.target;
  if (!details.matches?.(".why") || !details.open) return;
  for (const other of document.querySelectorAll(".why[open]")) if (other !== details) other.open = false;
  const text = details.querySelector(".why-text");
  if (text.textContent) return;
  const response = await fetch(details.dataset.why, { headers: { "HX-Request": "true" } });
  if (response.ok) text.textContent = (await response.text()).trim();
}, true);
document.addEventListener("click", (event) => {
  const filters = event.target.closest(".filters-toggle");
  if (filters) {
    const open = filters.getAttribute("aria-expanded") !== "true";
    filters.setAttribute("aria-expanded", String(open));
    document.documentElement.classList.toggle("filters-open", open);
  }
  if (!event.target.closest(".why")) {
    for (const why of document.querySelectorAll(".why[open]")) why.open = false;
  }
});

// Lists that the visitor opened stay open when the results change.
let opened = [];
document.addEventListener("htmx:beforeSwap", () => {
  opened = [...document.querySelectorAll(".filters details[open]")].map((each) => each.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  const filters = document.querySelector(".filters-toggle");
  const open = document.documentElement.classList.contains("filters-open");
  filters?.setAttribute("aria-expanded", String(open));
});

// A message goes away by itself.
let timer;
new MutationObserver(() => {
  const toast = document.getElementById("toast");
  clearTimeout(timer);
  if (toast.textContent.trim() && !toast.dataset.stays) timer = setTimeout(() => toast.replaceChildren(), 6000);
}).observe(document.getElementById("toast"), { childList: true, subtree: true });

// A page that comes back out of the browser's memory recommends what is known by now.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    for (const shelf of document.querySelectorAll("#shelf-recommended")) htmx.trigger(shelf, "shelf-refresh");
  }
});

function startRails(scope) {
  for (const shelf of scope.querySelectorAll(".shelf")) {
    const rail = shelf.querySelector(".rail");
    const arrows = shelf.querySelector(".shelf-arrows");
    arrows.hidden = rail.scrollWidth <= rail.clientWidth + 4;
    for (const button of arrows.querySelectorAll("button")) {
      button.addEventListener("click", () => rail.scrollBy({ left: Number(button.dataset.scroll) * rail.clientWidth * 0.8 }));
    }
  }
}

// Calls `start` with the document, and with whatever htmx puts into it.
function onContent(start) {
  start(document);
  document.addEventListener("htmx:load", (event) => start(event.target.parentElement ?? event.target));
}
