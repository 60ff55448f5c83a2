// Tells the shop what the visitor looks at and chooses. Who they are is in a cookie that scripts
// cannot read.

// The answer that led to an item, so that what follows can be put down to it.
const key = (itemId) => `answer:${itemId}`;

export function answerOf(itemId) {
  try {
    return sessionStorage.getItem(key(itemId)) ?? "";
  } catch {
    return "";
  }
}

function remember(itemId, requestId) {
  try {
    sessionStorage.setItem(key(itemId), requestId);
  } catch {
    // Storage is full or forbidden: the click counts, what follows is not put down to it.
  }
}

export function startEvents(root) {
  const send = (event) =>
    fetch(`${root}events`, {
      method: "POST",
      keepalive: true,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(event),
    }).catch(() => {});
  const click = (event) => {
    const link = event.target.closest?.("a[data-item]");
    if (!link || (event.type === "auxclick" && event.button !== 1)) return;
    const { item, request } = link.dataset;
    remember(item, request);
    send({ type: "click", item_id: item, request_id: request });
  };
  document.addEventListener("click", click);
  document.addEventListener("auxclick", click);
  const view = () => {
    const page = document.querySelector("[data-view]");
    if (!page) return;
    const item = page.dataset.view;
    const request = answerOf(item);
    for (const field of document.querySelectorAll("[data-request-field]")) field.value = request;
    send({ type: "view", item_id: item, ...(request && { request_id: request }) });
  };
  view();
}
