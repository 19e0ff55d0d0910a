#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Tests of examples/elementtree, from the outside.
#
#   sh tests/test_elementtree.sh ELEMENTTREE PHEAP     the two commands to use
#
# Prints a line for each case; the last line is "N passed, N failed".  Canonical XML is compared where xmllint is
# installed; the export itself is compared everywhere.
. "$(dirname "$0")/support/cases.sh"

usage='usage: test_elementtree.sh ELEMENTTREE PHEAP'
elementtree=$(absolute "${1:?$usage}") || exit 2
pheap=$(absolute "${2:?$usage}") || exit 2
mime=/usr/share/mime/packages/freedesktop.org.xml
in_scratch

import() { "$elementtree" import "$1" "${2-h.heap}" >/dev/null; }
export_to() { "$elementtree" export "${2-h.heap}" "$1"; }
find_in() { "$elementtree" find h.heap "$1"; }
sound() { "$pheap" check "${1-h.heap}" >/dev/null && "$elementtree" stats "${1-h.heap}" >/dev/null; }
canonical() { xmllint --nonet --huge --c14n "$1"; }

# What is exported means the same as what was imported, and is a fixed point.
round_trip() {
    rm -f h.heap*
    import "$1" && export_to once.xml || return 1
    import once.xml && export_to twice.xml || return 1
    cmp once.xml twice.xml || return 1
    if command -v xmllint >/dev/null; then
        canonical "$1" >before.c14n 2>/dev/null || say "xmllint refuses the original" || return 1
        canonical once.xml >after.c14n || return 1
        cmp before.c14n after.c14n || { diff before.c14n after.c14n | head -n 8; return 1; }
    fi
    sound
}

# The text of $1 as a document, unchanged by the trip.
unchanged() {
    printf '%s' "$1" >unchanged.xml
    round_trip unchanged.xml || return 1
    printf '%s\n' "$1" >expected.xml
    cmp expected.xml once.xml || { cat once.xml; return 1; }
}

# ------------------------------------------------------------------------------------------------------- round trips

round_trip__smallest() { unchanged '<a/>'; }
round_trip__empty_elements() { printf '<a><b></b><b/><b> </b></a>' >t.xml && round_trip t.xml; }
round_trip__mixed_content() { unchanged '<p>one <b>two</b> three <i>four <b>five</b></i> six<br/>seven</p>'; }
round_trip__order() { unchanged '<a>1<!--2-->3<?four 4?>5<b/>6<!--7--><c/></a>'; }
round_trip__predefined_entities() {
    unchanged '<a b="&lt;&amp;&gt;&quot;'"'"'">&lt;&amp;&gt;"'"'"' ]]&gt;</a>'
}
round_trip__character_references() {
    printf '<a b="&#10;&#x9;&#13;x&#32;">&#13;&#x41;&#x1F600;&#233;</a>' >t.xml && round_trip t.xml
}
round_trip__attributes_with_newlines() {
    printf '<a b="one\ntwo\tthree\r\nfour&#10;five" c=""/>' >t.xml && round_trip t.xml
}
round_trip__carriage_returns() {
    printf '<?xml version="1.0"?>\r\n<a>\r\n  <b/>\r\n</a>\r\n' >t.xml && round_trip t.xml
}
round_trip__cdata() {
    printf '<a>x<![CDATA[<b>&amp;</b>]]>y<![CDATA[]]><![CDATA[]]]]><![CDATA[>]]>z</a>' >t.xml
    round_trip t.xml && same text 'x<b>&amp;</b>y]]>z' "$(find_in '/a/text()')"
}
round_trip__comments() { unchanged '<a><!-- - a comment <b> & --><!----></a>'; }
round_trip__instructions() { unchanged '<a><?php echo "<b>"; ?><?empty?></a>'; }
round_trip__around_the_root() {
    unchanged '<!-- before -->
<?style sheet="x"?>
<a/>
<!-- after -->
<?end?>'
}
round_trip__namespaces() {
    unchanged '<x:a xmlns:x="urn:x" xmlns="urn:d" x:p="1"><b xmlns="" p="2"/><x:c xmlns:x="urn:other" x:p="3"/></x:a>'
}
round_trip__non_ascii() { unchanged '<größe 名前="値">Ω≈ç√ 😀 إختبار</größe>'; }
round_trip__declaration() { unchanged '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<a/>'; }
round_trip__doctype() {
    unchanged '<!DOCTYPE a [
  <!ELEMENT a (#PCDATA|b)*> <!-- a > comment ]> -->
  <?instruction in it?>
  <!ATTLIST b kind (x|y) "x" list NMTOKENS #IMPLIED>
  <!ENTITY e "text">
  <!NOTATION n SYSTEM "n">
]>
<a>&e; and &e;<b/><b kind="y"/></a>'
}
round_trip__default_attributes_are_not_stored() {
    printf '<!DOCTYPE a [<!ATTLIST a x CDATA "default" y CDATA #IMPLIED>]><a y="1"/>' >t.xml
    round_trip t.xml && same attributes '1' "$(find_in '/a/@*')"
}
round_trip__entities_with_markup() {
    unchanged '<!DOCTYPE a [<!ENTITY e "<b>bold</b> text">]>
<a>x&e;y<c>&e;</c></a>'
}
round_trip__entities_in_attributes() {
    printf '<!DOCTYPE a [<!ENTITY e "x &#38;#38; y">]><a b="1 &e; 2"/>' >t.xml
    round_trip t.xml && same attribute '1 x & y 2' "$(find_in '/a/@b')"
}
round_trip__parameter_entities() {
    printf '<!DOCTYPE a [<!ENTITY %% p "<!ENTITY e '"'"'v'"'"'>"> %%p;]><a>&e;</a>' >t.xml && round_trip t.xml
}
round_trip__doctype_outside() {
    printf '<!DOCTYPE a PUBLIC "-//x//y" "no-such-file.dtd" [<!ENTITY e "v">]><a b="&lt;&#65;">x</a>' >t.xml
    rm -f h.heap*
    import t.xml && export_to once.xml && same export '<!DOCTYPE a PUBLIC "-//x//y" "no-such-file.dtd" [<!ENTITY e "v">]>
<a b="&lt;A">x</a>' "$(cat once.xml)" || return 1
    printf '<!DOCTYPE a SYSTEM '"'"'with"quote.dtd'"'"'><a>&unknown;</a>' >t.xml
    import t.xml && export_to once.xml && same export '<!DOCTYPE a SYSTEM '"'"'with"quote.dtd'"'"'>
<a>&unknown;</a>' "$(cat once.xml)"
}
round_trip__bomb_of_entities_stays_small() {
    {
        echo '<!DOCTYPE a [<!ENTITY e0 "0123456789">'
        i=1
        while [ $i -le 30 ]; do
            echo "<!ENTITY e$i \"&e$((i - 1));&e$((i - 1));&e$((i - 1));&e$((i - 1));\">"
            i=$((i + 1))
        done
        echo ']><a>&e30;</a>'
    } >t.xml
    rm -f h.heap*
    import t.xml && export_to once.xml && [ "$(wc -c <once.xml)" -lt 3000 ] || return 1
    sed 's/<a>&e30;/<a b="\&e30;">/' t.xml >u.xml
    refuses 'u.xml:.*amplification' "$elementtree" import u.xml h.heap
}
round_trip__utf16() {
    printf '<?xml version="1.0" encoding="UTF-16"?><a b="\303\251">\342\202\254 \360\237\230\200&lt;</a>' |
        iconv -f UTF-8 -t UTF-16 >t.xml
    round_trip t.xml && same text "$(printf '\342\202\254 \360\237\230\200<')" "$(find_in '/a/text()')"
}
round_trip__latin1() {
    printf '<?xml version="1.0" encoding="ISO-8859-1"?><a>\351\374</a>' >t.xml
    round_trip t.xml && same text "$(printf '\303\251\303\274')" "$(find_in '/a/text()')"
}
round_trip__byte_order_mark() { printf '\357\273\277<a>x</a>' >t.xml && round_trip t.xml; }
round_trip__deep() {
    # xmllint has no canonical form for this depth, so only the bytes are compared.
    awk 'BEGIN { for(i = 0; i < 100000; i++) printf "<d>%d", i; for(i = 0; i < 100000; i++) printf "</d>t"; }' |
        sed 's/t$//' >t.xml
    rm -f h.heap*
    import t.xml && export_to once.xml || return 1
    printf '\n' >>t.xml
    cmp t.xml once.xml && same depth 'depth: 100000' "$("$elementtree" stats h.heap | grep depth)" || return 1
    same text 99999 "$(find_in "//d[text()='99999']/text()")" || return 1
    printf '<a/>' >t.xml
    import t.xml && sound && same 'all freed' 4 "$(live_blocks)"
}
round_trip__wide() {
    awk 'BEGIN { printf "<a"; for(i = 0; i < 5000; i++) printf " n%d=\"%d\"", i, i; printf ">";
                 for(i = 0; i < 100000; i++) printf "<b/>"; printf "</a>" }' >t.xml
    round_trip t.xml && same last 4999 "$(find_in '/a/@n4999')" &&
        same children 100000 "$(find_in '/a/b' | wc -l | tr -d ' ')"
}
round_trip__long_strings() {
    awk 'BEGIN { s = "0123456789"; for(i = 0; i < 18; i++) s = s s; n = substr(s, 1, 20000)
                 printf "<n%s b=\"%s\">%s<!--%s--></n%s>", n, s, s, s, n }' >t.xml
    rm -f h.heap*
    import t.xml && export_to once.xml && printf '\n' >>t.xml && cmp t.xml once.xml && sound
}
round_trip__many_transactions() {
    awk 'BEGIN { print "<a>"
                 for(i = 0; i < 60000; i++) printf "<b n=\"%d\">text %d<c/>tail</b>\n", i, i
                 print "</a>" }' >t.xml
    round_trip t.xml && same 'last text' 'text 59999' "$(find_in "/a/b[60000]/text()[1]")"
}
round_trip__mime_database() {
    [ -f $mime ] || return 0
    round_trip $mime
}

# ----------------------------------------------------------------------------------------------------- malformed XML

# malformed LINE:COLUMN XML
malformed() {
    printf "$2" >bad.xml
    before=$(cksum h.heap)
    refuses "bad.xml:$1: " "$elementtree" import bad.xml h.heap || return 1
    same 'the heap file' "$before" "$(cksum h.heap)" || return 1
    export_to still.xml && cmp good.xml still.xml || return 1
    rm -f new.heap
    refuses "bad.xml:$1: " "$elementtree" import bad.xml new.heap || return 1
    [ ! -e new.heap ] || say "a heap was created"
}
with_good() {
    rm -f h.heap*
    printf '<good>tree</good>\n' >good.xml
    import good.xml
}
malformed__empty_file() { with_good && malformed 1:1 ''; }
malformed__only_spaces() { with_good && malformed 3:1 '\n\n'; }
malformed__not_xml() { with_good && malformed 1:1 'hello'; }
malformed__tag_mismatch() { with_good && malformed 2:6 '<a>\n<b></c></a>'; }
malformed__not_closed() { with_good && malformed 3:1 '<a>\n<b/>\n'; }
malformed__two_roots() { with_good && malformed 1:5 '<a/><b/>'; }
malformed__text_after_root() { with_good && malformed 2:1 '<a/>\nx'; }
malformed__attribute_twice() { with_good && malformed 1:10 '<a b="1" b="2"/>'; }
malformed__attribute_without_quotes() { with_good && malformed 1:6 '<a b=1/>'; }
malformed__unknown_entity() { with_good && malformed 1:4 '<a>&unknown;</a>'; }
malformed__bad_utf8() { with_good && malformed 1:4 '<a>\377</a>'; }
malformed__control_character() { with_good && malformed 1:5 '<a>x\001</a>'; }
malformed__dashes_in_comment() { with_good && malformed 1:13 '<a><!-- a -- b --></a>'; }
malformed__cdata_not_closed() { with_good && malformed 1:19 '<a><![CDATA[ x</a>'; }
malformed__in_the_doctype() { with_good && malformed 2:1 '<!DOCTYPE a [\n<!ELEMEN a ANY>]><a/>'; }
malformed__encoding() { with_good && malformed 1:31 '<?xml version="1.0" encoding="no-such"?><a/>'; }
malformed__entity_declared_elsewhere_in_attribute() {
    with_good && malformed 1:24 '<!DOCTYPE a SYSTEM "x"><a b="&e;"/>'
}
malformed__far_from_the_start() {
    with_good || return 1
    awk 'BEGIN { print "<a>"; for(i = 0; i < 50000; i++) print "<b>text</b>"; print "<c></a>" }' >bad.xml
    before=$(cksum h.heap)
    refuses 'bad.xml:50002:6: mismatched tag; the heap is as before' "$elementtree" import bad.xml h.heap || return 1
    same 'the heap file' "$before" "$(cksum h.heap)"
}

# ------------------------------------------------------------------------------------------------------------- files

files__names_with_spaces_and_non_ascii() {
    directory="with spaces ünïcödé '\$x'"
    mkdir -p "$directory" && printf '<a>x</a>' >"$directory/ein Döcument.xml" || return 1
    heap="$directory/ein Häufchen 🗻.heap"
    "$elementtree" import "$directory/ein Döcument.xml" "$heap" >/dev/null &&
        "$elementtree" set "$heap" /a 'new text' >/dev/null &&
        "$elementtree" export "$heap" "$directory/out put.xml" &&
        same export '<a>new text</a>' "$(cat "$directory/out put.xml")" && sound "$heap" || return 1
    printf '<a>' >"$directory/schlecht ß.xml"
    refuses "schlecht ß.xml:1:4" "$elementtree" import "$directory/schlecht ß.xml" "$heap"
}
files__missing() {
    refuses 'no such.xml' "$elementtree" import 'no such.xml' h.heap &&
        refuses 'no such.heap' "$elementtree" find 'no such.heap' /a &&
        refuses 'no such.heap' "$elementtree" set 'no such.heap' /a x &&
        refuses 'no such.heap' "$elementtree" export 'no such.heap' &&
        [ ! -e 'no such.heap' ]
}
files__directories() {
    mkdir -p dir && with_good && refuses 'dir' "$elementtree" import dir h.heap &&
        refuses 'dir' "$elementtree" import good.xml dir && refuses 'dir' "$elementtree" export h.heap dir
}
files__not_a_heap() {
    printf 'this is a letter to a friend' >letter && with_good || return 1
    for command in "import good.xml letter" "find letter /a" "set letter /a x" "stats letter" "verify letter 0"; do
        # shellcheck disable=SC2086 # the command is a list
        refuses letter "$elementtree" $command || return 1
    done
    same letter 'this is a letter to a friend' "$(cat letter)"
}
files__heap_without_a_tree() {
    rm -f empty.heap*
    "$pheap" create empty.heap >/dev/null && refuses 'holds no tree' "$elementtree" export empty.heap &&
        refuses 'holds no tree' "$elementtree" set empty.heap /a x && with_good && import good.xml empty.heap
}
files__usage() {
    for command in "" "nonsense" "import" "import a" "import a b c" "find a" "set a b" "generate a" "verify a" \
        "find a b --c"; do
        misuses "$elementtree" "$command" || return 1
    done
    "$elementtree" --help | grep -q '^usage: '
}
files__full_output_device() {
    [ -w /dev/full ] || return 0
    with_good && refuses 'cannot write /dev/full' "$elementtree" export h.heap /dev/full || return 1
    refuses 'cannot write' sh -c "'$elementtree' find h.heap /good >/dev/full" &&
        refuses 'cannot write' sh -c "'$elementtree' --help >/dev/full"
}
# Catches: an export that empties the heap which it is about to read, by whatever name.
files__export_over_the_heap() {
    with_good && ln -s h.heap link.heap || return 1
    refuses 'h.heap: this is the heap itself' "$elementtree" export h.heap ./h.heap &&
        refuses 'link.heap: this is the heap itself' "$elementtree" export h.heap link.heap && sound
}
# Catches: a pipe that is at its end when it is read for the second time.
files__import_from_a_pipe() {
    with_good && mkfifo pipe && { cat good.xml >pipe & } || return 1
    refuses 'pipe: not a regular file' "$elementtree" import pipe h.heap && sound
}

# ------------------------------------------------------------------------------------------------------------- paths

with_library() {
    rm -f h.heap*
    cat >library.xml <<'XML'
<library xmlns:m="urn:m"><shelf n="1"><book id="a"><title>One</title></book>
<book id="b" m:lang="en"><title>Two</title><title>Zwei</title></book></shelf>
<shelf n="2"><book id="c"><title>Three</title>tail<!--c-->of three</book>
<box><book id="d"/></box></shelf>end</library>
XML
    tr -d '\n' <library.xml >one.line && mv one.line library.xml
    import library.xml
}
# leads PATH EXPECTED, where | stands between the lines
leads() { same "$1" "$2" "$(find_in "$1" | tr '\n' '|' | sed 's/|$//')"; }

paths__children() { with_library && leads '/library/shelf/book/title/text()' 'One|Two|Zwei|Three'; }
paths__relative() { with_library && leads 'shelf/book/title/text()' 'One|Two|Zwei|Three'; }
paths__elements() {
    with_library && leads "/library/shelf[2]/box" '<box><book id="d"/></box>' &&
        leads '//title' '<title>One</title>|<title>Two</title>|<title>Zwei</title>|<title>Three</title>'
}
paths__attributes() {
    with_library && leads /library/shelf/@n '1|2' && leads '//@id' 'a|b|c|d' && leads '//book[2]/@*' 'b|en' &&
        leads '//@m:lang' en
}
paths__positions() {
    with_library && leads '//book[1]/@id' 'a|c|d' && leads '/library/shelf[2]/book[1]/@id' c &&
        leads '//title[2]/text()' Zwei && leads '/library/*[2]/@n' 2 && leads '/library/shelf[3]' ''
}
paths__predicates() {
    with_library && leads "//book[@id='b']/title[1]/text()" Two && leads '//book[@m:lang]/@id' b &&
        leads '//book[@id="c"]/title/text()' Three && leads "//title[text()='Two']" '<title>Two</title>' &&
        leads "//book[@id][2]/@id" b && leads "//book[2][@id='b']/@id" b && leads "//book[2][@id='a']/@id" '' &&
        leads "//*[@n='2']/book/@id" c
}
paths__any_depth() {
    with_library && leads '//shelf//book/@id' 'a|b|c|d' && leads '/library//book[@id]/@id' 'a|b|c|d' &&
        leads '//library' "$(cat library.xml)"
}
paths__texts() {
    with_library && leads "//book[@id='c']/text()" 'tail|of three' && leads "//book[@id='c']/text()[2]" 'of three' &&
        leads '/library/text()' end && leads '//box//text()' ''
}
paths__nothing() { with_library && find_in /nothing; same status 1 $?; }
paths__wrong() {
    with_library || return 1
    while IFS='|' read -r path message; do
        refuses "$message" "$elementtree" find h.heap "$path" || return 1
    done <<'PATHS'
/|name is missing at character 2
//|name is missing at character 3
/a[|expected a position
/a[0]|count from 1
/a[1|] is missing at character 5
/a[@]|name is missing at character 5
/a[@x=y]|value in quotes is missing at character 7
/a[@x='y]|closing quote
/@x/b|nothing may follow
/a/text()/b|nothing may follow
/a b|/ is missing at character 3
/text()[@x]|takes a position only
|path is empty
PATHS
    refuses 'too many steps' "$elementtree" find h.heap "$(awk 'BEGIN { for(i = 0; i < 40; i++) printf "/a" }')"
}

# --------------------------------------------------------------------------------------------------------------- set

with_small() { rm -f h.heap* && printf '<a x="y">text<b>inner</b>tail</a>' >t.xml && import t.xml; }
becomes() { same export "$1" "$("$elementtree" export h.heap)" && sound; }

set__longer() {
    with_small && "$elementtree" set h.heap /a/b 'inner text that is much longer than before, yes' &&
        becomes '<a x="y">text<b>inner text that is much longer than before, yes</b>tail</a>'
}
set__shorter() { with_small && "$elementtree" set h.heap /a/b i && becomes '<a x="y">text<b>i</b>tail</a>'; }
set__empty() {
    with_small && "$elementtree" set h.heap /a/b '' && becomes '<a x="y">text<b/>tail</a>' &&
        "$elementtree" set h.heap /a/b again && becomes '<a x="y">text<b>again</b>tail</a>'
}
set__tail() {
    with_small && "$elementtree" set h.heap '/a/text()[2]' 'TAIL' && becomes '<a x="y">text<b>inner</b>TAIL</a>'
}
set__attribute() {
    with_small && "$elementtree" set h.heap /a/@x '<"&>' &&
        becomes '<a x="&lt;&quot;&amp;&gt;">text<b>inner</b>tail</a>' && "$elementtree" set h.heap /a/@x '' &&
        becomes '<a x="">text<b>inner</b>tail</a>'
}
set__special_characters() {
    with_small && "$elementtree" set h.heap /a/b '<b>&amp; ü😀' &&
        same text '<b>&amp; ü😀' "$(find_in '/a/b/text()')"
}
set__looks_like_an_option() {
    with_small && "$elementtree" set h.heap /a/b --lazy && becomes '<a x="y">text<b>--lazy</b>tail</a>'
}
set__huge() {
    with_small || return 1
    blocks=$(live_blocks)
    awk 'BEGIN { for(i = 0; i < 500000; i++) print "line number", i, "of a long text" }' >huge.txt
    "$elementtree" set h.heap /a/b --from huge.txt && find_in '/a/b/text()' >back.txt && printf '\n' >>huge.txt &&
        cmp huge.txt back.txt && sound || return 1
    "$elementtree" set h.heap /a/b small && becomes '<a x="y">text<b>small</b>tail</a>' &&
        same 'blocks after all' "$blocks" "$(live_blocks)"
}
set__logs_little() {
    [ -f $mime ] || return 0
    rm -f h.heap* && import $mime || return 1
    "$elementtree" set h.heap '/mime-info/mime-type[1]/comment[1]' Foo >/dev/null || return 1
    bytes=$("$elementtree" set h.heap '/mime-info/mime-type[1]/comment[1]' Foobar | sed -n 's/log record bytes: //p')
    [ "$bytes" -le 256 ] || say "$bytes bytes logged"
}
set__refused_changes_nothing() {
    with_small && blocks=$(live_blocks) && refuses 'nothing matches' "$elementtree" set h.heap /a/c x &&
        refuses 'nothing matches' "$elementtree" set h.heap /a/@z x &&
        refuses 'more than one' "$elementtree" set h.heap '/a/text()' x &&
        refuses 'byte 2 (0x01)' "$elementtree" set h.heap /a/b "$(printf 'x\001')" &&
        refuses 'byte 1 (0xff)' "$elementtree" set h.heap /a/b "$(printf '\377')" &&
        refuses 'byte 1 (0xc0)' "$elementtree" set h.heap /a/b "$(printf '\300\200')" &&
        refuses 'byte 1 (0xed)' "$elementtree" set h.heap /a/b "$(printf '\355\240\200')" &&
        refuses 'no such file' "$elementtree" set h.heap /a/b --from 'no such file' &&
        same blocks "$blocks" "$(live_blocks)" && becomes '<a x="y">text<b>inner</b>tail</a>'
}

# ---------------------------------------------------------------------------------------------- replacing and crashes

replace__frees_the_old_tree() {
    with_small && small=$(live_blocks) && round_trip library.xml && large=$(live_blocks) || return 1
    import t.xml && same 'small again' "$small" "$(live_blocks)" || return 1
    import library.xml && same 'large again' "$large" "$(live_blocks)" && sound
}
replace__frees_the_writer() {
    with_small && blocks=$(live_blocks) && some_changes 3 && import t.xml &&
        same blocks "$blocks" "$(live_blocks)" && sound
}
generate__reaches_the_size() {
    [ -f $mime ] || return 0
    rm -f g.heap*
    "$elementtree" generate --bytes 8M g.heap | grep -q '^heap bytes:' && sound g.heap || return 1
    bytes=$("$elementtree" stats g.heap | sed -n 's/heap bytes: //p')
    [ "$bytes" -ge 8388608 ] && [ "$bytes" -le 20000000 ] || say "$bytes bytes" || return 1
    printf '<a/>' >bare.xml
    refuses 'no children to fill' "$elementtree" generate --bytes 8M g.heap bare.xml && sound g.heap
}
import__killed_midway_leaves_the_old_tree() {
    awk 'BEGIN { print "<big>"
                 for(i = 0; i < 300000; i++) printf "<b n=\"%d\">text %d</b>\n", i, i
                 print "</big>" }' >big.xml
    rm -f h.heap* && with_small && blocks=$(live_blocks) || return 1
    for delay in 0.2 0.25 0.3 0.4 0.5 0.7; do
        "$elementtree" import big.xml h.heap >/dev/null 2>&1 &
        child=$!
        sleep $delay
        kill -9 $child 2>/dev/null
        wait $child 2>/dev/null
        sound || return 1
        case $(find_in '/*' | head -c 4) in
        '<a x') ;;
        '<big') ;;
        *) say "neither tree is there" || return 1 ;;
        esac
    done
    import t.xml && becomes '<a x="y">text<b>inner</b>tail</a>' && same blocks "$blocks" "$(live_blocks)"
}
# some_changes N: let the writer acknowledge at least N changes, then kill it
some_changes() {
    : >acknowledged
    "$elementtree" writer h.heap ${2-} >acknowledged &
    child=$!
    tries=0
    while [ "$(wc -l <acknowledged)" -le "$1" ] && [ $tries -lt 3000 ]; do # a minute
        sleep 0.02
        tries=$((tries + 1))
    done
    kill -9 $child
    wait $child 2>/dev/null
    last=$(tail -n 1 acknowledged)
    [ -n "$last" ] && [ "$last" -ge "$1" ]
}
writer__killed_keeps_what_it_acknowledged() {
    with_library || return 1
    for round in 1 2 3 4 5 6; do
        if [ $((round % 2)) -eq 0 ]; then mode=--lazy; else mode=; fi
        # shellcheck disable=SC2086 # an absent option is no argument
        some_changes $round $mode && "$elementtree" verify h.heap "$last" && sound || return 1
    done
}
verify__sees_what_is_wrong() {
    with_library && some_changes 5 && "$elementtree" verify h.heap "$last" >/dev/null || return 1
    refuses 'not: x 3' "$elementtree" verify h.heap x 3 &&
        refuses 'was acknowledged' "$elementtree" verify h.heap $((last + 5)) &&
        refuses 'no change after' "$elementtree" verify h.heap 1 1 &&
        "$elementtree" set h.heap '//title[1]' spoiled >/dev/null 2>&1
    "$elementtree" set h.heap '/library/shelf[1]/book[1]/title[1]' spoiled >/dev/null &&
        refuses 'should have the text of change' "$elementtree" verify h.heap 1 "$((last + 1))"
}

run_cases
