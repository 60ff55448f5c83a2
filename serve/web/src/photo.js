// A photo as the question: chosen, taken or pasted.
const MOST_PIXELS = 1024;

export function startPhoto(root) {
  const field = document.getElementById("photo");
  if (!field) return;
  field.addEventListener("change", () => field.files[0] && search(root, field.files[0]));
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) search(root, file);
  });
}

async function search(root, file) {
  const page = document.getElementById("page");
  page.setAttribute("aria-busy", "true");
  const response = await fetch(`${root}photo`, { method: "POST", headers: { "Content-Type": "image/jpeg" }, body: await smaller(file) });
  if (response.redirected || response.ok) location.assign(response.url);
  else page.removeAttribute("aria-busy");
}

// Photos of phones have twelve million pixels; the model reads a few thousand.
async function smaller(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file;
  const scale = Math.min(1, MOST_PIXELS / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}
