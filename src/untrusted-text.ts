// Text from clients, nodes, tokens, API servers and etcd, made safe for a log, a message or a terminal. Every place that
// shows such text cleans and cuts it here.

/** Characters that a terminal obeys or does not show; U+2800 is a Braille pattern without dots. */
const CONTROLS = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const CONTROLS_BUT_LINE_FEED = /(?!\n)[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const ELLIPSIS = "...";

/** Maximum length of a client's text in logs, the audit log and traces, in UTF-16 code units. */
const MAX_CLIENT_TEXT = 128;

/** Escapes control characters except line feeds as JSON does, so that a JSON document stays the same. */
export function escapeControls(text: string): string {
  return text.replace(CONTROLS_BUT_LINE_FEED, escape);
}

/** Escapes all control characters as JSON does, line feeds too: the result is one line. */
export function oneLine(text: string): string {
  return text.replace(CONTROLS, escape);
}

/** Replaces each control character by a question mark. */
export function maskControls(text: string): string {
  return text.replace(CONTROLS, "?");
}

/** Replaces each run of white space, line breaks included, by one space. */
export function collapseSpaces(text: string): string {
  return text.replace(/\s+/gu, " ").trim();
}

/** Returns at most `max` UTF-16 code units; a longer text ends in "...". */
export function truncate(text: string, max: number): string {
  return text.length <= max ? text : text.slice(0, max - ELLIPSIS.length) + ELLIPSIS;
}

/** Returns a request's uid, key_id or user agent as logs record it: short. Their formats escape control characters. */
export function clientText(text: string): string {
  return truncate(text, MAX_CLIENT_TEXT);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

/** Returns text as HTML, for an element's content or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/gu, (character) => ENTITIES[character] ?? "");
}

function escape(character: string): string {
  return [...Array(character.length).keys()]
    .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`)
    .join("");
}
