// Stop: asks a run to end after its epoch, and shows what became of it.

import { askStop, now, report } from "./api.js";
import { isGoing } from "./card.js";
import { h, say, show } from "./dom.js";
import { clean, duration } from "./words.js";

const OBEYING = ["webhook", "relay"]; // what sends these events reads commands too

/** A button that asks once more; `asked` is called when the run has been asked. */
export function makeStop(asked) {
  let card = null;
  let trouble = "";
  let asking = false;
  const words = h("span", { class: "told", role: "status" });
  const button = h("button", { type: "button", class: "stop" });
  const sure = h("button", { type: "button", class: "danger" }, "Stop the run");
  const no = h("button", { type: "button" }, "Let it run");
  const question = h("span", { class: "question" }, "It ends after its present epoch.", sure, no);
  const node = h("div", { class: "stopping" }, button, question, words);

  button.addEventListener("click", () => change(true, sure));
  no.addEventListener("click", () => change(false, button));
  sure.addEventListener("click", async () => {
    sure.disabled = true;
    try {
      trouble = "";
      const stop = await askStop(card.run);
      card.stop = stop; // of the card as it is by now
      asked();
    } catch (error) {
      trouble = `Not asked: ${clean(error.message, 120)}.`;
    }
    sure.disabled = false;
    change(false, button);
  });

  function change(open, focused) {
    asking = open;
    update(card);
    if (focused.checkVisibility()) focused.focus();
  }

  function update(latest) {
    card = latest;
    const { stop } = card;
    const running = isGoing(card);
    const state = stop?.state === "asked" && stop.expires < now() ? "expired" : stop?.state;
    const may = running && !["asked", "taken"].includes(state);
    show(node, !report && OBEYING.includes(card.source) && running);
    show(button, may && !asking);
    show(question, may && asking);
    say(button, state === "expired" ? "Ask again to stop" : "Stop after this epoch");
    say(words, trouble || describeStop(state, stop));
    show(words, words.textContent);
  }

  return [node, update];
}

function describeStop(state, stop) {
  if (state === "asked")
    return `Stop is asked; the run has ${duration(stop.expires - now())} to take it.`;
  if (state === "taken") return "The run has taken the stop: it ends after this epoch.";
  return state === "expired" ? "The run did not take the stop in time." : "";
}
