package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Ahead keeps what was decided of a partition before anything of it has an effect, for a store whose
// effects and position are not saved as one. Example: a put on the condition that its key is absent is
// written to Cassandra, and the process is killed before it has saved that it was; decided once more, it
// would find its own item. With Ahead the next start repeats what was decided, as a store that follows
// does, and decides what is above. Where other processes may take a partition over, they read it too; see
// package decisions.
type Ahead interface {
	Exceptions

	// Decided is up to where a partition was decided.
	Decided(ctx context.Context, p wal.Partition) (Decided, error)

	// Decide is told what was decided since the last commit, before anything of it has an effect. What has
	// to be known to the next start is durable when it returns. ErrSuperseded: it does not count.
	Decide(ctx context.Context, p wal.Partition, d *Decisions) error
}

// ErrSuperseded: another process has claimed the partition. What this one had decided and not told counts
// nowhere.
var ErrSuperseded = errors.New("another process has claimed the partition")

// Decided is up to where a partition was decided at least.
type Decided struct {
	To wal.Offset // wal.NoOffset for nowhere
	// LogTime and MaxTime are at least those of State at To; 0: it is not known here.
	LogTime, MaxTime int64
	Sources          Sources // as in State at To
}

// Decisions are what was decided of some records that follow each other.
type Decisions struct {
	// From and To are the first and the last record. To is below From where only a part of a record is decided,
	// the control record at From.
	From, To wal.Offset
	State    State // as of To
	// Letters is from where on the dead letters of what was decided may be needed still.
	Letters wal.Offset
	// Parked is the lowest offset that only the log still holds for a parked key, wal.NoOffset for none.
	Parked wal.Offset
	Rows   []ExceptionRow
	// Looked: some of it came of a look at the store, so that deciding it again may come to something else.
	Looked bool
}

// ExceptionRow is the exceptions of the record at an offset; see Ledger.Exceptions.
type ExceptionRow struct {
	Offset wal.Offset
	Row    []byte
}

// ahead is what a partition knows of its Ahead.
type ahead struct {
	// decided is up to where records are repeated, and not decided.
	decided Decided
	// repeats: the record in hand is.
	repeats bool
	// looked: a decision since the last commit came of a look at the store.
	looked bool
	// from is the first record that was decided since the last commit, wal.NoOffset for none.
	from wal.Offset
	rows []ExceptionRow // since the last commit
}

// Looked says that a decision of the record in hand follows from what the store has: it is durable
// before any effect of it.
func (r *Run) Looked() { r.Part.ahead.looked = true }

// loadAhead forgets the open batch's decisions and reads up to where the partition was decided.
func (q *Part) loadAhead(ctx context.Context) (err error) {
	q.ahead = ahead{decided: Decided{To: wal.NoOffset}, from: wal.NoOffset}
	if a := q.l.cfg.Ahead; a != nil {
		if q.ahead.decided, err = a.Decided(ctx, q.p); err != nil {
			return fmt.Errorf("read up to where partition %d was decided: %w", q.p, err)
		}
		q.l.cfg.Clock.Observe(q.ahead.decided.MaxTime)
		q.tellOlder()
	}
	q.repeatsTo.Store(int64(q.ahead.decided.To))
	return nil
}

// tellOlder has the next commit tell what was decided up to here without this Ahead: by a store that this one followed
// until now, or by an older build.
func (q *Part) tellOlder() {
	if q.l.cfg.Ahead != nil && !q.st.Follows && q.ahead.decided.To < q.st.Applied {
		q.ahead.from = q.st.Applied + 1
	}
}

// readRepeated reads the exceptions of those of entries that are repeated.
func (q *Part) readRepeated(ctx context.Context, entries []wal.Entry) error {
	d := &q.rows
	d.reset()
	if len(entries) == 0 || entries[0].Offset > q.ahead.decided.To {
		return nil
	}
	return q.l.cfg.Ahead.Exceptions(ctx, q.p, entries[0].Offset, q.ahead.decided.To+1, d.add)
}

// beginAhead says whether the record in hand is repeated, and corrects its log time where it is not.
func (q *Part) beginAhead(r *Run) {
	q.ahead.repeats = !q.st.Follows && r.Entry.Offset <= q.ahead.decided.To
	if !q.st.Follows && !q.ahead.repeats {
		r.LogTime = max(r.LogTime, q.ahead.decided.LogTime)
		q.st.MaxTime = max(q.st.MaxTime, q.ahead.decided.MaxTime)
		if from := q.ahead.decided.Sources; from != "" {
			q.st.Sources, q.ahead.decided.Sources = q.st.Sources.Merge(from), ""
		}
	}
}

// noteAhead keeps the row of a record that was decided, for Decide.
func (q *Part) noteAhead(o wal.Offset, row []byte) {
	if q.l.cfg.Ahead == nil {
		return
	}
	if q.ahead.from == wal.NoOffset {
		q.ahead.from = o
	}
	if len(row) > 0 {
		q.ahead.rows = append(q.ahead.rows, ExceptionRow{o, bytes.Clone(row)})
	}
}

// decideAhead tells what was decided since the last commit.
func (q *Part) decideAhead(ctx context.Context) error {
	if q.l.cfg.Ahead == nil || q.ahead.from == wal.NoOffset {
		return nil
	}
	letters := q.st.Applied + 1
	if at := q.parking.LowestAt(); at != wal.NoOffset {
		letters = min(letters, at)
	}
	d := &Decisions{From: q.ahead.from, To: q.st.Applied, State: q.st, Letters: letters, Parked: q.parking.Lowest(), Rows: q.ahead.rows, Looked: q.ahead.looked}
	if err := q.l.cfg.Ahead.Decide(ctx, q.p, d); err != nil {
		return fmt.Errorf("save what was decided of partition %d up to %d: %w", q.p, q.st.Applied, err)
	}
	return nil
}

// committedAhead forgets what the commit has saved.
func (q *Part) committedAhead() {
	q.ahead.looked, q.ahead.from = false, wal.NoOffset
	clear(q.ahead.rows)
	q.ahead.rows = q.ahead.rows[:0]
}
