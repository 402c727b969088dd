// Makes output that a runbook shows in full comparable with that of a real run: ignores times, ages, clocks and the
// blanks that align columns, and replaces key_ids by numbers in the order of their appearance.

const KEY_ID = /\b[0-9a-f]{8,32}(?:…|\.)[0-9a-f]{4,33}\b/g;

export class RunbookOutput {
  readonly #keyIds = new Map<string, number>();
  readonly #names: readonly (readonly [string, string])[];

  /** @param names pairs of a real name and the runbook's name for it, such as a node's address */
  constructor(names: readonly (readonly [string, string])[] = []) {
    this.#names = names;
  }

  /** Returns the comparable form. A key_id keeps its number in all outputs of one run. */
  comparable(output: string): string {
    const named = this.#names.reduce((text, [from, to]) => text.replaceAll(from, to), output);
    return named
      .replace(KEY_ID, (keyId) => `<key ${this.#numberOf(keyId)}>`)
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "<time>")
      .replace(/@\d{8}T\d{6}Z/g, "@<instant>")
      .replace(/[+-]\d+\.\d s\b/g, "<clock>")
      .replace(/\b(?:in )?\d+[smhd]\b/g, "<age>")
      .replace(/\d+\.\d+ ms/g, "<duration>")
      .replace(/ +/g, " ")
      .replace(/ $/gm, "")
      .trimEnd();
  }

  #numberOf(keyId: string): number {
    const number = this.#keyIds.get(keyId) ?? this.#keyIds.size + 1;
    this.#keyIds.set(keyId, number);
    return number;
  }
}
