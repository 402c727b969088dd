// An ESLint rule for the language of comments and strings: it reports phrases that always have a plainer form. The list
// is deliberately short; reviewers judge whatever depends on the sentence.

/** Phrases in comments and strings that have a plainer form. Only those that are never right are listed. */
const PHRASES = [
  [/\banew\b/i, 'write "again" or "reloaded"'],
  [/\b(be|been|is|are|was|were) had\b/i, 'name the action: "obtained", "bound", "read"'],
  [
    /\b(is|are|was|were|be|been|being|unless|otherwise) told\b(?! (to|apart|what)\b)/i,
    'write "reported" or "by default"',
  ],
  [/\bwhat (is|was) there\b/i, "name what exists"],
  [/(?<!\bin )\bthe way of\b/i, 'write "how ..."'],
  [/\bgo(es)? on with\b/i, 'write "continues with" or "keeps using"'],
  [/\bfor ever\b/i, 'write "forever"'],
  [/\bno longer than it\b/i, "compare with a named limit"],
  [/\bas (it|they) (was|were) found\b/i, 'write "unchanged" or "at the last check"'],
  [/(?<!\bthere )\bis no (plugin|socket|address)\b/i, 'write "is not a ..."'],
];

/** Returns the comments as texts: consecutive line comments are one text. */
function commentTexts(sourceCode) {
  const texts = [];
  for (const comment of sourceCode.getAllComments()) {
    const text = comment.value.replace(/^\s*\*?\s?/gm, "");
    const last = texts.at(-1);
    if (comment.type === "Line" && last?.type === "Line" && comment.loc.start.line === last.endLine + 1) {
      last.text += ` ${text}`;
      last.endLine = comment.loc.end.line;
    } else texts.push({ type: comment.type, loc: comment.loc, endLine: comment.loc.end.line, text });
  }
  return texts;
}

const plainPhrasesRule = {
  meta: { type: "suggestion", schema: [] },
  create(context) {
    const check = (loc, text) => {
      const sentence = text.replace(/\s+/g, " ");
      for (const [phrase, advice] of PHRASES) {
        const [found] = phrase.exec(sentence) ?? [];
        if (found !== undefined) context.report({ loc, message: `"${found}": ${advice}` });
      }
    };
    return {
      Program: () => {
        for (const { loc, text } of commentTexts(context.sourceCode)) check(loc, text);
      },
      Literal: (node) => {
        if (typeof node.value === "string") check(node.loc, node.value);
      },
      TemplateElement: (node) => {
        check(node.loc, node.value.cooked ?? "");
      },
    };
  },
};

export const plainPhrases = { rules: { "plain-phrases": plainPhrasesRule } };
