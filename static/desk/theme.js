// Sets the theme before the first paint; a classic script on purpose. Switching is in theme-switch.js.
// A signed-in person's theme is in the page already; the browser then remembers it for its sign-in page.
{
  const root = document.documentElement;
  const told = root.dataset.preferred;
  let kept = null;
  try {
    if (told === "system") localStorage.removeItem("theme"); else if (told) localStorage.setItem("theme", told);
    kept = localStorage.getItem("theme");
  } catch { kept = told; /* storage may be barred */ }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
}
