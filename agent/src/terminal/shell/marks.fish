set -g __farwire_nonce $FARWIRE_MARKS
set -g __farwire_count 0
set -e FARWIRE_MARKS
function __farwire_begins --on-event fish_preexec
    set -l text (string sub -l 2000 -- "$argv[1]" | string replace -a '%' '%25' | string replace -a \e '%1b' | string replace -a \a '%07' | string replace -a \x18 '%18' | string replace -a \x1a '%1a' | string join '%0a')
    set __farwire_count (math $__farwire_count + 1)
    printf '\e]133;E;%s;%s\a\e]133;C;%s;%s\a' $__farwire_nonce $text $__farwire_nonce $__farwire_count >/dev/tty
end
function __farwire_ended --on-event fish_postexec
    printf '\e]133;D;%s;%s;%s\a' $__farwire_nonce $status $__farwire_count >/dev/tty
    __farwire_wrap
end
function __farwire_wrap
    string match -q '*__farwire_own_prompt*' -- (functions fish_prompt)
    and return
    functions -e __farwire_own_prompt
    functions -c fish_prompt __farwire_own_prompt
    function fish_prompt
        set -l own $status
        printf '\e]133;A;%s\a' $__farwire_nonce
        __farwire_status $own
        __farwire_own_prompt
        printf '\e]133;B;%s\a' $__farwire_nonce
    end
end
function __farwire_status
    return $argv[1]
end
# A tab in a paste is a character, which fish would drop.
bind -M paste \t 'commandline -i \t'
__farwire_wrap
