// What htmx does not do by itself. No page needs it to be read.
"use strict";

// Behind a link on another site's page a browser keeps the cookie back, and we are asked to sign in although we have.
// Our own script is asked with the cookie.
const signIn = document.querySelector("form[data-next]");
if (signIn) {
  fetch("/console/signed-in", { cache: "no-store" })
    .then((answer) => answer.text())
    .then((said) => {
      if (said === "yes") location.replace(signIn.dataset.next);
    })
    .catch(() => {}); // then one signs in
}

// What is asked for and fails without an answer is said where the answer would be.
document.addEventListener("htmx:sendError", (event) => {
  const target = event.detail.target;
  if (!target || target.id === "dependencies") return;
  const failure = document.createElement("div");
  failure.className = "failure";
  failure.setAttribute("role", "alert");
  failure.textContent = "The console does not answer. Is `bridge api` running? Try again.";
  target.replaceChildren(failure);
});

// Whoever ticks a letter means the ticked ones, and not the whole group.
document.addEventListener("change", (event) => {
  const ticked = document.getElementById("which-ticked");
  if (ticked && event.target.name === "letter" && event.target.checked) ticked.checked = true;
});

// A second click does not send a form twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.hasAttribute("hx-post")) return;
  setTimeout(() => { // the form has to be read first
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("form button")) button.disabled = false;
});
