// Concludes from the trials of the mechanisms: at least one must work, refuse what was tampered with, and take a DEK
// seed.
import type { MechanismTrial } from "../../hsm/wire-trials.js";
import type { Finding, Observations } from "./report.js";

/** Lengths of a DEK seed, and of one with its digest. */
const NEEDED_BYTES: readonly number[] = [32, 40];

/** Returns a finding for each mechanism, and one if none works. */
export function mechanismFindings({ mechanisms, usedExistingKek }: Observations): Finding[] {
  const findings = mechanisms.map(judge);
  if (mechanisms.some(({ works }) => works)) return findings;
  const why = usedExistingKek
    ? "the KEK on the token performs none"
    : "none works, and there is no KEK on the token to try";
  return [...findings, { verdict: "fail", subject: "mechanism", detail: why }];
}

function judge({ choice, mechanism, works, detail, ...trials }: MechanismTrial): Finding {
  if (!works) return { verdict: "ok", subject: "mechanism", detail: `${choice}: does not work: ${detail}` };
  const { flippedBits = [], flippedAad = "", lengths = [] } = trials;
  const accepted = [
    ...flippedBits
      .filter(({ outcome }) => outcome === "accepted")
      .map(({ at }) => `a flipped bit (${at} byte)`),
    ...(flippedAad === "accepted" ? ["other associated data"] : []),
  ];
  const tooLong = lengths.filter(({ outcome }) => outcome !== "ok");
  const unusable = tooLong.filter(({ bytes }) => NEEDED_BYTES.includes(bytes));
  const refusals = [...new Set([...flippedBits.map(({ outcome }) => outcome), flippedAad])].join(", ");
  const limits = tooLong.map(({ bytes, outcome }) => `; ${bytes} bytes: ${outcome}`).join("");
  if (accepted.length > 0) {
    const text = `${mechanism}: accepts ${accepted.join(" and ")}`;
    return { verdict: "fail", subject: "mechanism", detail: text };
  }
  return {
    verdict: unusable.length > 0 ? "fail" : "ok",
    subject: "mechanism",
    detail: `${mechanism}: ${detail}; tampering: ${refusals}${limits}`,
  };
}
