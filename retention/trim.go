package retention

// Floor is what a partition's log must keep, as offsets: everything at or above
// each of them. A value below zero is not known and keeps everything.
type Floor struct {
	// Durable is one above the lowest position that every store of the namespace
	// has itself made durable.
	Durable int64
	// Window is the first record of the last token window: a store that is rebuilt
	// needs the tokens in it.
	Window int64
	// Parked is the lowest record that only the log still holds; Unparked when
	// none.
	Parked int64
	// Retention is the first record that the namespace's log.retention keeps.
	Retention int64
}

// Unparked is the Parked of a partition where nothing is.
const Unparked = int64(1)<<62 - 1

// TrimTo returns the offset below which a log that starts at start may be
// trimmed, and what keeps it from being trimmed further: "store", "tokens",
// "parked" or "retention".
func (f Floor) TrimTo(start int64) (to int64, blockedBy string) {
	to, blockedBy = f.Durable, "store"
	for _, x := range []struct {
		at   int64
		what string
	}{{f.Parked, "parked"}, {f.Window, "tokens"}, {f.Retention, "retention"}} {
		if x.at < to {
			to, blockedBy = x.at, x.what
		}
	}
	return max(to, start), blockedBy
}
