// Sets the kept theme before the first paint; a classic script on purpose. Switching is in desk.js.
{
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* storage may be barred: the system's theme then */ }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
}
