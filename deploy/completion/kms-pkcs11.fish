# Completion of kms-pkcs11 for fish. The candidates come from the program itself.

function __kms_pkcs11_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program __complete $words "$current" 2>/dev/null)
    or return
    set -l kind $lines[-1]
    set -e lines[-1]
    string join \n -- $lines
    set -l value (string replace -r '^--[^=]*=' '' -- $current)
    set -l head (string replace -r -- '(^--[^=]*=)?.*' '$1' $current)
    switch $kind
        case :files
            __fish_complete_path "$value" | string replace -r '^' -- "$head"
        case :folders
            __fish_complete_directories "$value" '' | string replace -r '^' -- "$head"
        case :users
            __fish_complete_users | string replace -r '^' -- "$head"
    end
end

complete -c kms-pkcs11 -f -k -a '(__kms_pkcs11_complete)'
