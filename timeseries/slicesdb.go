package timeseries

import (
	"cmp"
	"context"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// SliceState says whether a slice is read.
type SliceState byte

// The states of slices.
const (
	SliceOpen    SliceState = iota + 1
	SliceShut               // closed: nothing reads or writes it
	SliceDropped            // due to be dropped
)

// SliceInfo is a slice of a namespace: those of its partitions with one start and one end.
type SliceInfo struct {
	SliceSize
	State SliceState
}

// SliceInfos lists the slices of a namespace, by start and end, with what this process has
// acknowledged. It looks at every event. Errors: *wal.BehindError, those of the owner.
func (db *DB) SliceInfos(ctx context.Context) ([]SliceInfo, error) {
	set := db.cfg.Options()
	var all []SliceInfo
	for p := range wal.Partition(db.Stream.Info().Partitions) {
		if err := db.Stream.WaitRead(ctx, p, &wal.ReadPoint{Consistency: wal.ReadYourWrites}); err != nil {
			return nil, err
		}
		now := db.ReadTime(p)
		sizes, err := db.cfg.Owner.Measure(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, x := range sizes {
			info := SliceInfo{SliceSize: x, State: SliceOpen}
			switch {
			case set.dropped(x.Slice, now):
				info.State = SliceDropped
			case set.closed(x.Slice, now):
				info.State = SliceShut
			}
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b SliceInfo) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End)) })
	out := all[:0]
	for _, x := range all {
		if n := len(out) - 1; n >= 0 && out[n].Start == x.Start && out[n].End == x.End {
			last := &out[n]
			last.Events, last.Bytes = last.Events+x.Events, last.Bytes+x.Bytes
			last.EventBuckets, last.State = max(last.EventBuckets, x.EventBuckets), min(last.State, x.State)
			continue
		}
		out = append(out, x)
	}
	return out, nil
}
