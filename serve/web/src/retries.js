// When the shop does not answer: the page says so and asks again, later and later.
const FIRST_MS = 1000;
const MOST_MS = 30000;

export function startRetries(htmx) {
  const toast = document.getElementById("toast");
  let wait = FIRST_MS;
  const retry = (event) => {
    const { xhr, requestConfig } = event.detail;
    const temporary = !xhr?.status || [429, 502, 503, 504].includes(xhr.status);
    if (!temporary || requestConfig.verb !== "get") return;
    toast.dataset.stays = "true";
    toast.replaceChildren(paragraph(document.body.dataset.again));
    const asked = ++latest;
    setTimeout(() => asked === latest && requestConfig.elt.isConnected && again(htmx, requestConfig), wait);
    wait = Math.min(2 * wait, MOST_MS);
  };
  let latest = 0;
  document.addEventListener("htmx:beforeRequest", () => latest++);
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, retry);
  }
  document.addEventListener("htmx:afterSwap", () => {
    wait = FIRST_MS;
    if (!toast.dataset.stays) return;
    delete toast.dataset.stays;
    toast.replaceChildren();
  });
  if (document.querySelector("[data-retry]")) reloadWhenUp(FIRST_MS);
}

function again(htmx, { elt, target, path }) {
  const values = elt.closest("#search, #filters, #sort") ? {} : undefined;
  if (values) htmx.trigger(document.getElementById("search"), "submit");
  else htmx.ajax("GET", path, { source: elt, target, swap: "outerHTML" });
}

function reloadWhenUp(wait) {
  setTimeout(async () => {
    const response = await fetch(location.href, { method: "GET" }).catch(() => null);
    if (response && ![429, 502, 503, 504].includes(response.status)) location.reload();
    else reloadWhenUp(Math.min(2 * wait, MOST_MS));
  }, wait);
}

function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}
