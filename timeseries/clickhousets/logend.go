package clickhousets

import (
	"context"
	"errors"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

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
// no read has seen them, for none sees what the ledger's position does not cover.
func (s *Store) LogEndsAt(p wal.Partition, end wal.Offset) { s.ends[p] = logEnd{known: true, at: end} }

// removeLost removes the rows of records that the log does not hold.
func (s *Store) removeLost(ctx context.Context, p wal.Partition) error {
	e := &s.ends[p]
	if !e.known || e.checked {
		return nil
	}
	where := func(q *statement) string {
		return " WHERE store = " + q.param("String", s.life) + " AND part = " + strconv.Itoa(int(p)) + " AND decided >= " + number(int64(e.at))
	}
	q := &statement{}
	q.WriteString("SELECT DISTINCT slice FROM " + table + where(q))
	var in []int64
	err := s.rows(ctx, "look for rows of a log that was lost", q, nil, func(r rowScanner) error {
		var x int64
		err := r.Scan(&x)
		in = append(in, x)
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range in {
		q := &statement{}
		q.addf("DELETE FROM "+table+" IN PARTITION ('%s', %d, %d)%s", s.life, p, x, where(q))
		err = errors.Join(err, s.exec(ctx, "remove rows of a log that was lost", q, clickhouse.Settings{"lightweight_deletes_sync": 2}))
	}
	if err != nil {
		return err
	}
	if len(in) > 0 {
		s.cluster.cfg.Logger.Warn("removed rows of records that the log does not hold; was the data directory restored from a copy?", "cluster", s.cluster.cfg.Name,
			"dataset", s.dataset, "partition", uint32(p), "from", int64(e.at), "slices", len(in))
	}
	e.checked = true
	return nil
}
