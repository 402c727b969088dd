// The questions of `kms-pkcs11 init` on a terminal. A question whose answer is invalid is asked again; Ctrl-C and
// Ctrl-D cancel.
import { createInterface, type Interface } from "node:readline";
import { KmsError } from "../../errors.js";
import { HSMS } from "../../init/hsm-needs.js";
import { kekUri } from "../../init/configuration.js";
import {
  answerProblem,
  DISTRIBUTIONS,
  NODES,
  PINS,
  questionOf,
  requireConsistent,
  RUNTIMES,
  type Answers,
} from "../../init/values.js";

/**
 * Asks everything that a values file would contain.
 * @throws KmsError CONFIG_INVALID without a terminal, or if the answers contradict each other; CANCELLED
 */
export async function askForAnswers(): Promise<Answers> {
  requireTerminal("give --values FILE");
  return withQuestions(async (questions) => {
    const hsm = await questions.choose("hsm", HSMS);
    const distribution = await questions.choose("distribution", DISTRIBUTIONS);
    const runtime = RUNTIME_OF[distribution] ?? (await questions.choose("runtime", RUNTIMES));
    const nodes = await questions.choose("nodes", NODES);
    const chosen = { hsm, distribution, runtime, nodes };
    requireConsistent(chosen);
    const { token = "", object = "", modulePath = "" } = kekUri(chosen);
    return {
      ...chosen,
      token: await questions.read("token", token),
      object: await questions.read("object", object),
      library: await questions.read("library", modulePath),
      ...(runtime === "systemd" && { pin: await questions.choose("pin", PINS) }),
    };
  });
}

/** Asks before files are written. @throws KmsError CANCELLED unless the answer is yes */
export async function confirmWriting(count: number): Promise<void> {
  const answer = await withQuestions((questions) =>
    questions.ask(`Write ${count === 1 ? "this file" : `these ${count} files and folders`}? [y/N] `),
  );
  if (!/^y(es)?$/i.test(answer.trim())) throw cancelled();
}

/** @throws KmsError CONFIG_INVALID unless standard input is a terminal */
function requireTerminal(advice: string): void {
  if (process.stdin.isTTY) return;
  throw new KmsError("CONFIG_INVALID", `standard input is not a terminal, so init cannot ask; ${advice}`);
}

/** Distributions that work with one runtime only. */
const RUNTIME_OF: Readonly<Partial<Record<Answers["distribution"], Answers["runtime"]>>> = {
  k3s: "systemd",
  talos: "static-pod",
};

async function withQuestions<Result>(use: (questions: Questions) => Promise<Result>): Promise<Result> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await use(new Questions(terminal));
  } finally {
    terminal.close();
  }
}

class Questions {
  readonly #terminal: Interface;
  /** Lines that were typed or pasted before their question. */
  readonly #lines: string[] = [];
  #waiting: { resolve: (line: string) => void; reject: (error: Error) => void } | undefined;
  #isClosed = false;

  constructor(terminal: Interface) {
    this.#terminal = terminal;
    terminal.on("line", (line) => {
      if (this.#waiting === undefined) this.#lines.push(line);
      else this.#waiting.resolve(line);
      this.#waiting = undefined;
    });
    terminal.on("close", () => {
      this.#isClosed = true;
      if (this.#waiting === undefined) return;
      // The error gets a line of its own.
      process.stderr.write("\n");
      this.#waiting.reject(cancelled());
    });
  }

  /** Returns the line that answers. @throws KmsError CANCELLED after Ctrl-C, Ctrl-D or the end of the input */
  ask(prompt: string): Promise<string> {
    this.#terminal.setPrompt(prompt);
    const line = this.#lines.shift();
    if (line !== undefined) {
      process.stderr.write(`${prompt}${line}\n`);
      return Promise.resolve(line);
    }
    if (this.#isClosed) return Promise.reject(cancelled());
    this.#terminal.prompt();
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** Returns one of `values`; the operator gives its name or number. */
  async choose<Value extends string>(name: keyof Answers, values: readonly Value[]): Promise<Value> {
    const list = values.map((value, at) => `  ${at + 1}  ${value}\n`).join("");
    process.stderr.write(`${questionOf(name)}\n${list}`);
    for (let prompt = `${name}: `; ; prompt = `give a name or a number from 1 to ${values.length}: `) {
      const answer = (await this.ask(prompt)).trim();
      const value = values.find((one, at) => one === answer || String(at + 1) === answer);
      if (value !== undefined) return value;
    }
  }

  /** Returns a text; an empty answer stands for `preset`. */
  async read(name: keyof Answers, preset: string): Promise<string> {
    for (let prompt = `${questionOf(name)} [${preset}]: `; ;) {
      const answer = (await this.ask(prompt)).trim() || preset;
      const problem = answerProblem(name, answer);
      if (problem === undefined) return answer;
      prompt = `${problem} [${preset}]: `;
    }
  }
}

function cancelled(): KmsError {
  return new KmsError("CANCELLED", "cancelled; nothing was written");
}
