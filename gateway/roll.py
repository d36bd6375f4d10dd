"""The roll: the members a shop was told of. Pure.

Two documents: all members of the region, and on top of exactly that version those who have changed since. A second one that goes on top
of another first one is left aside until its own arrives. Nobody is here by name or number: the roll is asked by keyed hash, by the number
of a signed code, or by an old card's keyed hash.
"""

import msgspec

from gateway.signed import Document, MemberEntry, MemberList

NOTHING = MemberList(region="")


class Roll:
    """The documents in force, and where each member is found in them."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._entries: dict[str, MemberEntry] = {}
        self._by_phone: dict[str, str] = {}
        self._by_code: dict[str, str] = {}
        self._by_card: dict[str, str] = {}
        self._next_end_s: int | None = None  # of the tag that ends first
        self.as_of_s = 0  # what is told was so then, by headquarters' clock; 0: nothing was told

    @property
    def region(self) -> str:
        """Whose telephone numbers are meant when no country is typed."""
        return self._base.region

    @property
    def secret(self) -> str:
        """The key of numbers and cards, wrapped for this box."""
        return self._base.secret

    @property
    def _base(self) -> MemberList:
        whole = self._documents.get("members")
        return whole.members or NOTHING if whole is not None else NOTHING

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, document: Document) -> None:
        """Put a document in force."""
        self._documents[document.name] = document
        self._index()

    def by_ref(self, member_ref: str) -> MemberEntry | None:
        """The member of that reference."""
        return self._entries.get(member_ref)

    def by_phone(self, phone_key: str) -> MemberEntry | None:
        """The member who has the number of that key."""
        return self._entries.get(self._by_phone.get(phone_key, ""))

    def by_code(self, reference: str) -> MemberEntry | None:
        """The member whose signed code bears that number."""
        return self._entries.get(self._by_code.get(reference, ""))

    def by_card(self, card_key: str) -> MemberEntry | None:
        """The member whose old card has that key."""
        return self._entries.get(self._by_card.get(card_key, ""))

    def expire(self, now_s: int) -> list[Document]:
        """Forget the tags whose time is over; the documents that held some, without them."""
        if self._next_end_s is None or now_s < self._next_end_s:
            return []
        changed = []
        for name, document in self._documents.items():
            held = document.members or NOTHING
            entries = [_without(entry, now_s) for entry in held.entries]
            if entries != held.entries:
                changed.append(msgspec.structs.replace(document, members=msgspec.structs.replace(held, entries=entries)))
                self._documents[name] = changed[-1]
        self._index()
        return changed

    def _index(self) -> None:
        whole, recent = self._documents.get("members"), self._documents.get("members_recent")
        if whole is None or whole.members is None:
            return
        on_top = recent if recent is not None and recent.members is not None and recent.members.base == whole.version else None
        later = on_top.members or NOTHING if on_top is not None else NOTHING
        entries = {entry.member_ref: entry for entry in (*whole.members.entries, *later.entries)}
        changed = {entry.member_ref for entry in later.entries}
        cards = dict(card for card in whole.members.cards if card[1] not in changed) | dict(later.cards)
        self._entries = entries
        self._by_phone = {entry.phone: ref for ref, entry in entries.items() if entry.phone}
        self._by_code = {entry.code: ref for ref, entry in entries.items()}
        self._by_card = {key: ref for key, ref in cards.items() if ref in entries}
        self.as_of_s = max(whole.issued_us, on_top.issued_us if on_top is not None else 0) // 1_000_000
        held = [document.members for document in (whole, recent) if document is not None and document.members is not None]
        self._next_end_s = min((until_s for one in held for entry in one.entries for _, until_s in entry.tags), default=None)


def _without(entry: MemberEntry, now_s: int) -> MemberEntry:
    tags = [tag for tag in entry.tags if tag[1] > now_s]
    return entry if tags == entry.tags else msgspec.structs.replace(entry, tags=tags)
