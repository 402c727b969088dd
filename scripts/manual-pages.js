// Writes the man pages, one of the program and one of each command or group of commands: manual-pages.js FOLDER. The text is
// that of --help. SOURCE_DATE_EPOCH is the pages' date. Needs the build.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createProgram } from "../dist/cli/program.js";
import { VERSION } from "../dist/version.js";

const PROGRAM = "kms-pkcs11";
const EXAMPLES = /^Examples?:$/;

/** Returns text so that roff prints it unchanged; quotes and hyphens stay those that a shell reads. */
function roff(text) {
  const escapes = {
    "\\": "\\e",
    "-": "\\-",
    "'": "\\(aq",
    "^": "\\(ha",
    "~": "\\(ti",
    "`": "\\(ga",
    '"': "\\(dq",
  };
  const escaped = text.replaceAll(/[\\^~`'"-]/g, (character) => escapes[character]);
  return escaped.startsWith(".") ? `\\&${escaped}` : escaped;
}

const paragraph = (lines) => [".PP", roff(lines.join(" "))];
const code = (lines) => [".PP", ".RS 4", ".nf", ...lines.map((line) => roff(line.slice(2))), ".fi", ".RE"];

/** Returns the text that a command's help has after its options: paragraphs, and code in indented lines. */
function prose(text) {
  const blocks = [];
  for (const line of text.split("\n")) {
    const kind =
      line === "" ? "gap" : line.startsWith("  ") ? "code" : EXAMPLES.test(line) ? "title" : "text";
    if (blocks.at(-1)?.kind === kind && kind !== "title") blocks.at(-1).lines.push(line);
    else blocks.push({ kind, lines: [line] });
  }
  return blocks.flatMap(({ kind, lines }) => {
    if (kind === "gap") return [];
    if (kind === "code") return code(lines);
    return kind === "title" ? [".PP", `.B ${roff(lines[0])}`] : paragraph(lines);
  });
}

function textAfterOptions(command) {
  let shown = "";
  command.configureOutput({ writeOut: (text) => (shown += text), getOutHasColors: () => false });
  command.outputHelp();
  return shown.slice(command.helpInformation().length).trim();
}

/** Returns terms with their descriptions. */
const list = (items) =>
  items.flatMap(({ term, description }) => [
    ".TP",
    `.B ${roff(term)}`,
    ...(description === "" ? ["\\&"] : [roff(description)]),
  ]);

function optionsOf(command) {
  const help = command.createHelp();
  return list([
    ...help.visibleArguments(command).map((one) => ({
      term: `<${help.argumentTerm(one)}>`,
      description: help.argumentDescription(one),
    })),
    ...help.visibleOptions(command).map((one) => ({
      term: help.optionTerm(one),
      description: help.optionDescription(one),
    })),
  ]);
}

/** Returns the commands that a command stands for: itself, or those of its group. */
function leaves(command, above = PROGRAM) {
  const name = `${above} ${command.name()}`;
  if (command.commands.length === 0) return [{ name, command }];
  return command.commands.flatMap((inner) => leaves(inner, name));
}

const usage = (command) => command.createHelp().commandUsage(command);

function pageOf(command, others) {
  const [first, ...more] = leaves(command);
  const body =
    more.length === 0 && command.commands.length === 0
      ? [
          ".SH DESCRIPTION",
          roff(command.description()),
          ...prose(textAfterOptions(first.command)),
          ".SH OPTIONS",
          ...optionsOf(first.command),
        ]
      : [
          ".SH COMMANDS",
          ...[first, ...more].flatMap(({ name, command: one }) => [
            `.SS ${roff(name)}`,
            roff(one.description()),
            ...optionsOf(one),
            ...prose(textAfterOptions(one)),
          ]),
        ];
  return page(`${PROGRAM}-${command.name()}`, command.description(), [
    ".SH SYNOPSIS",
    ...[first, ...more].flatMap(({ command: one }, at) => [
      ...(at === 0 ? [] : [".br"]),
      `.B ${roff(usage(one))}`,
    ]),
    ...body,
    ...seeAlso([PROGRAM, ...others]),
  ]);
}

function programPage(program, names) {
  const help = program.createHelp();
  return page(PROGRAM, program.description(), [
    ".SH SYNOPSIS",
    `.B ${roff(usage(program))}`,
    ".SH DESCRIPTION",
    roff(`${program.description()}. Each command has a page of its own.`),
    ".SH COMMANDS",
    ...list(program.commands.map((one) => ({ term: one.name(), description: one.description() }))),
    ".SH OPTIONS",
    ...list(
      help
        .visibleOptions(program)
        .map((one) => ({ term: help.optionTerm(one), description: help.optionDescription(one) })),
    ),
    ".SH EXIT STATUS",
    ...prose(textAfterOptions(program)).slice(1),
    ".SH FILES",
    ...list([{ term: "/etc/kms-pkcs11/config.yaml", description: "the configuration, if none is named" }]),
    ".SH ENVIRONMENT",
    ...list([{ term: "KMS_PKCS11_CONFIG", description: "the configuration, if --config does not name one" }]),
    ...seeAlso(names),
  ]);
}

function page(name, description, lines) {
  const date = new Date(Number(process.env.SOURCE_DATE_EPOCH ?? 0) * 1000).toISOString().slice(0, 10);
  return [
    `.TH ${roff(name.toUpperCase())} 1 ${date} "${PROGRAM} ${VERSION}" "User Commands"`,
    // Names and options are not hyphenated, and lines are not filled out with spaces.
    ".nh",
    ".ad l",
    ".SH NAME",
    `${roff(name)} \\- ${roff(description)}`,
    ...lines,
    "",
  ].join("\n");
}

function seeAlso(names) {
  const references = names.map((name, at) => `.BR ${roff(name)} (1)${at === names.length - 1 ? "" : ","}`);
  return [".SH SEE ALSO", ...references];
}

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write("usage: manual-pages.js FOLDER\n");
  process.exit(2);
}
const program = await createProgram({ out: () => undefined, err: () => undefined, isInteractive: false }, []);
const names = program.commands.map((command) => `${PROGRAM}-${command.name()}`);
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, `${PROGRAM}.1`), programPage(program, names));
for (const command of program.commands) {
  const name = `${PROGRAM}-${command.name()}`;
  writeFileSync(
    join(folder, `${name}.1`),
    pageOf(
      command,
      names.filter((other) => other !== name),
    ),
  );
}
