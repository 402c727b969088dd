# Completion of kms-pkcs11 for bash 4.4 or newer. The candidates come from the program itself.
# shellcheck shell=bash

_kms_pkcs11() {
  local program rest=${COMP_LINE:0:COMP_POINT} part='' i words=()
  # bash splits words at COMP_WORDBREAKS, such as "=" and ":"; the program gets them whole, up to the cursor.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    part=${COMP_WORDS[i]}
    if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
      rest=${rest#"${rest%%[![:space:]]*}"}
      words+=('')
    fi
    part=${part:0:${#rest}}
    words[-1]+=$part
    rest=${rest#"$part"}
  done
  program=$(type -P -- "${words[0]/#\~/$HOME}") || program=kms-pkcs11

  local output kind current=${words[-1]} head value
  output=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return 0
  kind=${output##*$'\n'}
  # bash replaces the last part only, but with the "@" before it.
  [[ $part == [=:] ]] && part=''
  head=${current%"$part"}
  head=${head%@}

  COMPREPLY=()
  while IFS=$'\t' read -r value _; do
    [[ $value == :* ]] || COMPREPLY+=("${value#"$head"}")
  done <<<"$output"
  case $kind in
    :files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$part") ;;
    :folders) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$part") ;;
    :users) mapfile -t COMPREPLY < <(compgen -u -- "$part") ;;
  esac
}

complete -o nosort -F _kms_pkcs11 kms-pkcs11
