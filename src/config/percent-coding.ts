// Percent-encoding in PKCS#11 URIs (RFC 7512). No message repeats a value.
import { invalid } from "./invalid.js";

/** Returns the bytes with each of them encoded. */
export function percentEncode(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}

/**
 * Returns the bytes of an attribute's value: pk11-pchar in the path, pk11-qchar in the query (section 2.3).
 * @throws KmsError CONFIG_INVALID for other characters
 */
export function percentDecode(name: string, text: string, separator: ";" | "&"): Buffer {
  const literal = separator === ";" ? /[\w.~:[\]@!$'()*+,=&-]/ : /[\w.~:[\]@!$'()*+,=/?|-]/;
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    const hex = text.slice(at + 1, at + 3);
    if (char === "%") {
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) {
        throw invalid(`${name} holds a "%" without two hex digits after it; write a percent sign as %25`);
      }
      bytes.push(Number.parseInt(hex, 16));
      at += 2;
    } else if (literal.test(char)) {
      bytes.push(char.charCodeAt(0));
    } else if (/[\r\n]/.test(char)) {
      throw invalid(`${name} holds a line break; remove it`);
    } else {
      throw invalid(`${name} holds a character that must be percent-encoded, such as a space as %20`);
    }
  }
  return Buffer.from(bytes);
}
