# SPDX-License-Identifier: MIT
"""Objects that other processes use, that are interrupted, and that C programs made."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pheap
from support import HeapTest
from test_classes import Node, Person, Sized, Struct
from test_heap import run


class Processes(HeapTest):
    def test_fork(self):
        # Would catch a child that reads through what its parent has mapped: it would be killed.
        joe = self.root["joe"] = Person("Joe", 1)
        self.assertEqual(joe.age, 1)
        child = os.fork()
        if child == 0:
            ok = joe.age == 1
            joe.age = 2
            os._exit(0 if ok and joe.age == 2 else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(joe.age, 2)

    def test_another_process_changes_a_field(self):
        # Would catch a quick read that goes on showing what was: S2, M11.
        joe = self.root["joe"] = Person("Joe", 0)
        child = subprocess.Popen(
            [sys.executable, "-c", _COUNTER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            for i in range(1, 50):
                child.stdin.write("\n")
                child.stdin.flush()
                child.stdout.readline()
                self.assertEqual((joe.age, joe.height), (i, i / 2))
            child.stdin.close()

    def test_torn_never(self):
        # Would catch fields of one transaction that one look sees apart, and a field that goes backwards.
        pair = self.root["pair"] = Person("pair", 0, 0.0)
        child = os.fork()
        if child == 0:
            try:
                for i in range(3000):
                    with self.heap.transaction(durable=False):
                        pair.age = i
                        pair.height = float(i)
            finally:
                os._exit(0)
        seen = 0
        while seen < 2999:
            before, height = pair.age, pair.height
            self.assertGreaterEqual(height, before)
            self.assertGreaterEqual(before, seen)
            seen = before
            with self.heap.snapshot() as snapshot:
                one = snapshot.root["pair"]
                self.assertEqual(one.age, one.height)
        os.waitpid(child, 0)

    def test_killed_in_a_transaction(self):
        self.root["joe"] = Person("Joe", 1)
        run(
            """
            import test_classes
            heap = pheap.open(sys.argv[1], durable=False)
            heap.root["ann"] = test_classes.Person("Ann", 31)
            heap.transaction().__enter__()
            heap.root["joe"].age = 99
            heap.root["sized"] = test_classes.Sized()
            os.kill(os.getpid(), 9)
            """,
            self.path,
        )
        self.assertEqual((self.root["joe"].age, self.root["ann"].age), (1, 31))
        self.assertNotIn("sized", self.root)
        self.root["sized"] = Sized()

    def test_interrupted(self):
        # Would catch an object that is half stored when Ctrl-C comes.
        stored = 0
        signal.signal(signal.SIGALRM, _raise)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.SIG_DFL)
        for i in range(30):
            one = Person("x", i)
            one.tags = [Node(j) for j in range(50)]
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003 + 0.00002 * i)
                self.root[i] = one
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self.assertEqual(one._stored, i in self.root)
            self.assertEqual((one.age, len(one.tags)), (i, 50))
            stored += one._stored
        self.assertEqual(len(self.root), stored)

    def test_c_program(self):
        # S9, M11: the struct of examples/people/people.c, made by C, changed here, read by C; and made here.
        people = Path(os.environ.get("PHEAP_BUILD", "."), "examples/people")
        if not people.exists():
            self.skipTest("the examples are not built")

        def command(*args):
            done = subprocess.run([people, self.path, *args], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        command("add", "Joe", "27")
        joe = self.root["people"]["Joe"]
        self.assertIs(type(joe), Struct)
        self.assertEqual((joe.age, joe.note_count), (27, 0))
        command("note", "Joe", "likes the red one")
        self.assertEqual((joe.note_count, list(joe.notes)), (1, ["likes the red one"]))
        joe.notes.append("and the blue")
        joe.age = 28
        self.assertEqual(command(), "28 Joe\n    likes the red one\n    and the blue\n")
        example = Path(__file__).resolve().parents[1] / "examples/people.py"

        def python(*args):
            return subprocess.run(
                [sys.executable, example, self.path, *args], capture_output=True, text=True, check=True
            ).stdout

        python("note", "Joe", "and the green")
        self.assertEqual(python(), command())
        self.assertEqual((joe.note_count, joe.notes[2]), (2, "and the green"))
        python("forget-notes", "Joe")
        self.assertEqual(command(), "28 Joe\n")
        self.root["people"]["Ann"] = Struct(5)
        command("note", "Ann", "made by Python")
        self.assertEqual(list(self.root["people"]["Ann"].notes), ["made by Python"])


    def test_any_struct_of_c(self):
        # Would catch bytes of an array, a bit field or a nested struct that are shown as something else, or changed.
        build = Path(os.environ.get("PHEAP_BUILD", "."))
        archives = [build / "types/libpheap_types.a", build / "libpheap.a"]
        compiler = shutil.which("cc")
        top = Path(__file__).resolve().parents[2]
        if compiler is None or not all(map(Path.exists, archives)):
            self.skipTest("there is no C compiler, or the libraries are not built")
        source, program = self.path.with_name("a.c"), self.path.with_name("a.out")
        source.write_text(_STRUCT)
        (self.path.parent / "pheap").mkdir()
        for header in ("pheap/pheap.h", "types/types.h"):
            shutil.copy(top / header, self.path.parent / "pheap")
        libraries = ["-lxxhash", "-lzstd", "-lpthread", *os.environ.get("PHEAP_SANITIZER_FLAGS", "").split()]
        plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        command = [compiler, "-I", self.path.parent, source, *archives, *libraries, "-o", program]
        subprocess.run(command, check=True, env=plain)
        subprocess.run([program, self.path], check=True, env=plain)
        one = self.root["one"]
        self.assertEqual((one.three, one.text, one.low, one.high), ((-1, 2, -3), "abcd", 5, -2))
        self.assertEqual((one.inner, one.real, one.many), (b"\1\0\2\0", 0.5, (None, "a value of some length")))
        with self.assertRaises(TypeError):
            one.low = 1

        class Known(pheap.Persistent, name="any.Struct", version=2):  # it has other fields: an older layout
            real: float
            added: int = 3

        del one
        one = self.root["one"]
        self.assertEqual((type(one), one.real, one.added), (Known, 0.5, 3))
        one.added = 4
        self.assertEqual((one.real, one.added), (0.5, 4))


_STRUCT = """
#include <pheap/types.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct inner { int16_t a, b; };
struct any { int16_t three[3]; char text[4]; uint32_t bits; struct inner inner; float real; pht_value many[2]; };

#define FIELD(of, what, is, bytes, n, ...)  \\
    {.name = #what, .kind = PHT_FIELD_##is, .size = bytes, .offset = offsetof(struct of, what), .count = n, __VA_ARGS__}

static void must(enum pheap_status status)
{
    if (status != PHEAP_OK)
        abort();
}

int main(int argc, char **argv)
{
    pheap *heap;
    pheap_txn *txn;
    struct pht t;
    uint32_t inner, any;
    uint64_t at;
    pht_value record;
    void *address;
    must(argc == 2 ? pheap_open(argv[1], 0, NULL, &heap) : PHEAP_INVALID);
    must(pheap_begin(heap, &txn));
    must(pht_begin(txn, &t));
    const struct pht_field inside[] = {
        FIELD(inner, a, SIGNED, 2, 1, .type = 0), FIELD(inner, b, SIGNED, 2, 1, .type = 0)};
    const struct pht_layout small = {
        .name = "any.Inner", .version = 1, .size = sizeof(struct inner), .field_count = 2, .fields = inside};
    must(pht_type_register(&t, &small, &inner));
    struct pht_field fields[] = {
        FIELD(any, three, SIGNED, 2, 3, .type = 0),  FIELD(any, text, CHAR, 1, 4, .type = 0),
        FIELD(any, bits, UNSIGNED, 4, 1, .bit_first = 1, .bit_count = 3),
        FIELD(any, bits, SIGNED, 4, 1, .bit_first = 4, .bit_count = 28),
        FIELD(any, inner, STRUCT, 4, 1, .type = inner), FIELD(any, real, FLOAT, 4, 1, .type = 0),
        FIELD(any, many, VALUE, 8, 2, .type = 0)};
    fields[2].name = "low";
    fields[3].name = "high";
    const struct pht_layout layout = {
        .name = "any.Struct", .version = 1, .size = sizeof(struct any), .field_count = 7, .fields = fields};
    must(pht_type_register(&t, &layout, &any));
    must(pht_record_new(&t, any, &record));
    must(pht_map_set(&t, pht_root(&t), pht_text("one"), pht_of(record)));
    must(pht_record_at(&t, record, any, &at, NULL));
    must(pheap_edit(txn, at, sizeof(struct any), &address));
    *(struct any *)address = (struct any){.three = {-1, 2, -3}, .text = "abcd", .bits = 5u << 1 | 0xffffffe0u,
                                           .inner = {1, 2}, .real = 0.5f};
    must(pht_record_set(&t, record, offsetof(struct any, many) + 8, pht_text("a value of some length")));
    must(pheap_commit(txn, PHEAP_LAZY, NULL));
    must(pheap_close(heap));
    return 0;
}
"""


def _raise(number, frame):
    raise KeyboardInterrupt


_COUNTER = """
import sys, pheap, test_classes
with pheap.open(sys.argv[1]) as heap:
    joe = heap.root["joe"]
    for line in sys.stdin:
        with heap.transaction(durable=False):
            joe.age += 1
            joe.height = joe.age / 2
        print(flush=True)
"""
