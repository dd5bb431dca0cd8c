package clickhousestore

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/wal"
)

// logEnd is where the log of a partition ended as the process began.
type logEnd struct {
	known, checked bool
	at             wal.Offset // the first offset that was not there
}

// LogEndsAt says, before anything is applied, where the log of a partition ends. Rows of records
// that it does not hold are of a log that was lost, as after a restore from a copy: other records
// will have their offsets. They are removed before the first block of the partition is written;
// no read may have seen them, for none sees what the position of its store does not cover.
func (r *Rows) LogEndsAt(p wal.Partition, end wal.Offset) {
	r.ends[p] = logEnd{known: true, at: end}
}

// removeLost removes the rows of records that the log does not hold.
func (r *Rows) removeLost(ctx context.Context, p wal.Partition) error {
	e := &r.ends[p]
	if !e.known || e.checked {
		return nil
	}
	lost := func(*Statement) string { return "decided >= " + Number(e.at) }
	in, err := r.SlicesWith(ctx, "look for rows of a log that was lost", p, lost)
	if err != nil {
		return err
	}
	for _, x := range in {
		err = errors.Join(err, r.DeleteIn(ctx, "remove rows of a log that was lost", p, x, lost, true))
	}
	if err != nil {
		return err
	}
	if len(in) > 0 {
		r.Cluster.cfg.Logger.Warn("removed rows of records that the log does not hold; was the data directory restored from a copy?", "cluster", r.Cluster.cfg.Name,
			"dataset", r.Dataset, "partition", uint32(p), "from", int64(e.at), "slices", len(in))
	}
	e.checked = true
	return nil
}
