// Filters: the price slider, and the box that finds a value in a long list. Both are shown by
// scripts alone: without them the two fields for prices and the whole list serve.

export function startFacets(scope) {
  for (const group of scope.querySelectorAll(".group.price")) startSlider(group);
  for (const group of scope.querySelectorAll("[data-filterable]")) startFinder(group);
}

function startSlider(group) {
  const stops = JSON.parse(group.dataset.stops);
  const labels = JSON.parse(group.dataset.labels);
  const slider = group.querySelector(".slider");
  if (stops.length < 3 || !slider.hidden) return;
  const [low, high] = slider.querySelectorAll("input");
  const [lowField, highField] = group.querySelectorAll("[type=number]");
  const last = stops.length - 1;
  const place = (field, none) =>
    field.value === "" ? none : stops.findLastIndex((stop) => stop <= Number(field.value));
  const show = () => {
    for (const input of [low, high]) input.setAttribute("aria-valuetext", labels[input.value]);
    slider.style.setProperty("--low", Number(low.value) / last);
    slider.style.setProperty("--high", Number(high.value) / last);
  };
  low.max = high.max = last;
  low.value = Math.max(0, place(lowField, 0));
  high.value = Math.max(0, place(highField, last));
  slider.hidden = false;
  show();
  for (const input of [low, high]) {
    input.addEventListener("input", () => {
      if (Number(low.value) >= Number(high.value)) {
        if (input === low) low.value = Number(high.value) - 1;
        else high.value = Number(low.value) + 1;
      }
      lowField.value = Number(low.value) === 0 ? "" : stops[low.value];
      highField.value = Number(high.value) === last ? "" : stops[high.value];
      show();
    });
  }
}

function startFinder(group) {
  const box = group.querySelector(".facet-search");
  if (!box || !box.hidden) return;
  box.hidden = false;
  const find = () => {
    const text = box.value.trim().toLocaleLowerCase();
    const more = group.querySelector("details");
    if (more && text) more.open = true;
    for (const row of group.querySelectorAll("li")) {
      row.hidden = !row.querySelector(".option-label").textContent.toLocaleLowerCase().includes(text);
    }
  };
  // Of a list that is cut short the shop looks for more values besides.
  box.addEventListener("input", find);
  box.addEventListener("change", (event) => event.stopPropagation());
}
