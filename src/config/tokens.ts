// The tokens that hold the KEK: each URI together with its library and the source of its PIN. In the file,
// `module` and `pin` win over the same thing in the URI beside them; a URI from the command line wins over
// both.
import { isAbsolute } from "node:path";
import { KmsError } from "../errors.js";
import { defaultPinSource, resolvePinSource, type PinSource } from "./pin-source.js";
import { parsePinSourceName, type PinSourceName } from "./pin-source-name.js";
import { formatPkcs11Uri, type KekUri } from "./pkcs11-uri.js";
import type { Problems, SettingPath } from "./problems.js";

export interface TokenSettings {
  readonly uri: KekUri;
  /** Absolute. */
  readonly modulePath: string;
  readonly moduleParameters?: string;
  readonly pin: PinSource;
}

/** What could be read of a token's settings. */
export interface TokenDraft {
  readonly uri?: KekUri | undefined;
  readonly module?: { readonly path?: string | undefined; readonly parameters?: string | undefined };
  readonly pin?: { readonly [Kind in "file" | "env" | "credential" | "unlock"]?: string | undefined };
}

/** The paths of one token's settings, for messages. */
interface Place {
  readonly uri: SettingPath;
  readonly module: SettingPath;
  readonly pin: SettingPath;
}

export interface TokenContext {
  readonly env: NodeJS.ProcessEnv;
  /** The first token's URI came from the command line. */
  readonly uriFromFlag: boolean;
  readonly pinFromStdin: boolean;
  readonly problems: Problems;
}

/** Returns the tokens in the order given, without those that have problems; adds the problems. */
export function resolveTokens(drafts: readonly TokenDraft[], context: TokenContext): TokenSettings[] {
  const objectName = drafts[0]?.uri?.object;
  const spellings = new Set<string>();
  return drafts.flatMap((draft, index) => {
    const place = placeOf(index);
    if (draft.uri === undefined) return [];
    if (objectName !== undefined && draft.uri.object !== objectName) {
      context.problems.add({
        at: place.uri,
        text: `names another KEK than keys.uri; give object=${objectName}`,
      });
    }
    const spelling = formatPkcs11Uri(draft.uri);
    if (spellings.has(spelling)) {
      context.problems.add({ at: place.uri, text: "names a token that is there already; remove it" });
    }
    spellings.add(spelling);
    return resolveToken(draft.uri, draft, place, {
      ...context,
      uriFromFlag: context.uriFromFlag && index === 0,
    });
  });
}

function placeOf(index: number): Place {
  const section = (name: string): SettingPath => (index === 0 ? [name] : ["failover", index - 1, name]);
  return {
    uri: index === 0 ? ["keys", "uri"] : section("uri"),
    module: section("module"),
    pin: section("pin"),
  };
}

function resolveToken(uri: KekUri, draft: TokenDraft, place: Place, context: TokenContext): TokenSettings[] {
  const { path, parameters } = draft.module ?? {};
  const modulePath = context.uriFromFlag ? (uri.modulePath ?? path) : (path ?? uri.modulePath);
  if (!context.problems.concern([...place.module, "path"])) {
    checkModulePath(uri, modulePath, place, context.problems);
  }
  const pin = resolvePin(uri, draft, place, context);
  if (modulePath === undefined || pin === undefined) return [];
  return [{ uri, modulePath, ...(parameters !== undefined && { moduleParameters: parameters }), pin }];
}

function checkModulePath(uri: KekUri, path: string | undefined, place: Place, problems: Problems): void {
  if (path === undefined) {
    const found =
      uri.moduleName === undefined ? "names no library" : "has a module-name, which is not searched for";
    const section = place.module.join(".").replace(/\.(\d+)\./, "[$1].");
    problems.add({
      at: place.uri,
      text: `${found}; add module-path=/path/to/library.so to it, or set ${section}.path`,
    });
  } else if (!isAbsolute(path)) {
    problems.add({ at: place.uri, text: "has a module-path that is not absolute; begin it with /" });
  }
}

function resolvePin(
  uri: KekUri,
  draft: TokenDraft,
  place: Place,
  context: TokenContext,
): PinSource | undefined {
  if (context.pinFromStdin) return { kind: "stdin" };
  const given = namesOf(draft);
  if (given.length > 1) {
    const kinds = given.map(({ kind }) => kind).join(" and ");
    context.problems.add({ at: place.pin, text: `holds ${kinds}; keep one` });
    return undefined;
  }
  const inUri = uri.pinSource === undefined ? undefined : parsePinSourceName(uri.pinSource);
  const fromSection = !(context.uriFromFlag && inUri !== undefined) && given[0] !== undefined;
  const name = fromSection ? given[0] : inUri;
  try {
    return name === undefined ? defaultPinSource(context.env) : resolvePinSource(name, context.env);
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    context.problems.add({ at: fromSection ? place.pin : place.uri, text: error.message });
    return undefined;
  }
}

function namesOf({ pin }: TokenDraft): PinSourceName[] {
  const names: PinSourceName[] = [];
  if (pin?.file !== undefined) names.push({ kind: "file", path: pin.file });
  if (pin?.env !== undefined) names.push({ kind: "env", name: pin.env });
  if (pin?.credential !== undefined) names.push({ kind: "credential", name: pin.credential });
  if (pin?.unlock !== undefined) names.push({ kind: "unlock", path: pin.unlock });
  return names;
}
