package timeseries

import "github.com/headwater-db/headwater/wal"

// form is the version of the canonical forms of requests:
//
//	write   1 | for each event, as it was sent: series blob | time (8 bytes) | id blob | items blob
//	delete  2 | series blob
//
// where a blob is its length as a varint and its bytes, and items are as AppendItems
// writes them. An event without an id has an empty one.
const form = 1

func hashOf(events []Event) wal.Hash {
	return wal.HashOf(form, func(x *wal.Hasher) {
		x.Blob([]byte{byte(OpWrite)})
		var items []byte
		for i := range events {
			e := &events[i]
			x.Blob(e.Series)
			x.Int(e.Time)
			x.Blob(e.ID)
			items = AppendItems(items[:0], e.Items)
			x.Blob(items)
		}
	})
}

func hashOfDelete(series []byte) wal.Hash {
	return wal.HashOf(form, func(x *wal.Hasher) {
		x.Blob([]byte{byte(OpDelete)})
		x.Blob(series)
	})
}
