# SPDX-License-Identifier: MIT
"""people: the heap of examples/people/people.c, in Python.  Both can use it at the same time.

    people.py HEAP                   everybody, by age, with their notes
    people.py HEAP note NAME TEXT    a note about one
    people.py HEAP forget-notes NAME

Who is there and how old they are is kept by the C program, which has an ordered map of them.
"""

import sys

import pheap


class Person(pheap.Persistent, name="people.Person", version=1, others=False):
    """The struct person of people.c, field by field."""

    age: pheap.i32
    note_count: pheap.u32
    notes: list  # unset as long as there are none

    def note(self, text):
        if not hasattr(self, "notes"):
            self.notes = []
        self.notes.append(text)
        self.note_count += 1

    def forget_notes(self):
        del self.notes
        self.note_count = 0


def main(path, verb="list", name=None, text=None):
    with pheap.open(path, "w") as heap:
        people = heap.root.get("people", {})
        if verb == "list":
            with heap.snapshot() as snapshot:
                people = snapshot.root.get("people", {})
                for name, person in sorted(people.items(), key=lambda item: (item[1].age, item[0])):
                    print(person.age, name)
                    for note in getattr(person, "notes", ()):
                        print("   ", note)
        elif name not in people:
            sys.exit(f"people.py: nobody of that name: {name}")
        else:
            with heap.transaction():
                if verb == "note":
                    people[name].note(text)
                elif verb == "forget-notes":
                    people[name].forget_notes()
                else:
                    sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
