// Times in the reader's zone. <time datetime="…Z" data-relative> reads "3 min ago" and keeps up; UTC is in its title.
import { preferences } from "./preferences.js";

const zone = { timeZone: preferences.zone };

export const clock = (at) => new Date(at).toLocaleTimeString("en-GB", zone);
export const dayClock = (at) => new Date(at).toLocaleString("en-GB", { ...zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).replace(",", "");
export const utc = (at) => `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;

// "12 s ago", "3 min ago", "2 h 05 ago", "4 d ago"; a moment to come reads "in 3 min".
export function relative(at, now = Date.now()) {
  const seconds = Math.round((now - new Date(at)) / 1000);
  const size = Math.abs(seconds);
  const words = size < 60 ? `${size} s` : size < 3600 ? `${Math.floor(size / 60)} min`
    : size < 86400 ? `${Math.floor(size / 3600)} h ${String(Math.floor(size / 60) % 60).padStart(2, "0")}` : `${Math.floor(size / 86400)} d`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

// Fills a <time> element: words, machine time and UTC on hover.
export function fill(element, at, words = clock(at)) {
  element.dateTime = at;
  element.title = utc(at);
  element.textContent = words;
}

function refresh() {
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const words = relative(element.dateTime);
    if (element.textContent !== words) element.textContent = words;
  }
}
setInterval(refresh, 15000);
refresh();
