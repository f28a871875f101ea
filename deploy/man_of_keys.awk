# Makes nemogate.yaml(5) of what `nemogate config-doc` prints, so that the page cannot drift from
# what the program takes. Variables: version.

function roff(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/`/, "", text)
    return (text ~ /^[.']/ ? "\\&" : "") text
}

BEGIN {
    FS = " [|] "
    print ".TH NEMOGATE.YAML 5 \"\" \"nemogate " version "\" \"File Formats\""
    print ".SH NAME"
    print "nemogate.yaml \\- configuration of nemogate"
    print ".SH DESCRIPTION"
    print "A YAML file, normally"
    print ".IR /etc/nemogate/nemogate.yaml ;"
    print ".B nemogate config\\-sample"
    print "prints one with every key and comments. A dot leads into a section, [] to each item of a list.\n"
    print ".B ${NAME}"
    print "in a value is replaced from the environment, $$ is a dollar. Durations are written 250ms, 5s,"
    print "2m, 1h; sizes 64KiB, 1MiB. Unknown keys are errors."
    print ".SH KEYS"
}

# | `key` | type | default | range | meaning |
/^[|] `/ {
    sub(/^[|] /, "")
    sub(/ [|]$/, "")
    print ".TP"
    print ".B " roff($1)
    meaning = $5
    for (i = 6; i <= NF; i++)
        meaning = meaning " | " $i
    print roff(meaning)
    print ".br"
    range = $4 == "required" || $4 == "" ? "" : "; " $4
    print roff($2 range "; " ($3 == "required" ? "required" : "default: " $3))
}

END {
    print ".SH SEE ALSO"
    print ".BR nemogate (8)"
}
