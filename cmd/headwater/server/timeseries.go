package server

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/pebblets"
	"github.com/headwater-db/headwater/wal"
)

// timeSeriesFront is what takes the calls of a time-series namespace.
type timeSeriesFront struct {
	*timeseries.Local
	db *timeseries.DB
}

func (x *space) newTimeSeriesFront() *timeSeriesFront {
	f := &timeSeriesFront{Local: timeseries.NewLocal(x.progress)}
	f.db = timeseries.NewDB(timeseries.DBConfig{
		Stream: x.ns.Stream, Owner: f.Local, Clock: &x.s.spaces.clock, Now: x.s.broker.Now, BufferedLoss: x.s.broker.BufferedLoss(),
		Options: func() *timeseries.Options {
			c := x.ns.Config()
			return &timeseries.Options{FrontOptions: frontOptions(c), Settings: *seriesSettings(c), ReadMax: c.SLO.Read.Max}
		},
	})
	x.ns.TimeSeries = f.db
	return f
}

func (f *timeSeriesFront) noteTokens(n int64) { f.db.NoteUsage(n) }

func seriesSettings(c *namespace.Config) *timeseries.Settings {
	t, l := &c.TimeSeries, &c.Lifecycle
	set := &timeseries.Settings{
		TokenWindow: c.Tokens.Window, Slice: t.Slice, EventBuckets: t.EventBuckets, AcceptLimit: t.AcceptLimit, AcceptFuture: t.AcceptFuture,
		CloseAfter: l.CloseAfter, DeleteAfter: l.DeleteAfter,
	}
	for _, s := range t.Blocked {
		if set.Blocked == nil {
			set.Blocked = make(map[string]bool, len(t.Blocked))
		}
		set.Blocked[s] = true
	}
	return set
}

// timeSeriesBackend is a store of events on Pebble.
type timeSeriesBackend struct {
	st      *store
	pebble  *pebblets.Store
	applier *timeseries.Applier
}

func (b *timeSeriesBackend) open(cfg pebblestore.Config) (l ledger, err error) {
	b.pebble, err = pebblets.Open(cfg)
	return b.pebble, err
}

func (b *timeSeriesBackend) load() *consumers.Loop {
	b.applier = timeseries.NewApplier(timeseries.ApplierConfig{LoopConfig: b.st.loopConfig(), Store: b.pebble, Settings: b.settings})
	return b.applier.Loop
}

// settings are those of the version that a record was accepted under.
func (b *timeSeriesBackend) settings(version uint64) (*timeseries.Settings, error) {
	c, err := b.st.x.configAt(version)
	if err != nil {
		return nil, err
	}
	return seriesSettings(c), nil
}

// save: every batch is saved as it is applied.
func (b *timeSeriesBackend) save(context.Context, wal.Partition) error { return nil }

func (b *timeSeriesBackend) view(ctx context.Context, p wal.Partition) (view, wal.Offset, error) {
	v, err := b.pebble.Snapshot(ctx, p)
	if err != nil {
		return nil, wal.NoOffset, err
	}
	return v, v.State().Applied, nil
}

func (b *timeSeriesBackend) compare(ctx context.Context, p wal.Partition, x, y view, r *consumers.Report, looked func(n int64)) error {
	a := x.(timeseries.Snapshot)
	return timeseries.Compare(ctx, p, a, y.(timeseries.Snapshot), seriesSettings(b.st.x.ns.Config()).OpenAt(a.State().LogTime), r, looked)
}

func (b *timeSeriesBackend) serve(p wal.Partition) {
	b.st.x.front.(*timeSeriesFront).Set(p, &timeseries.Replica{Store: b.pebble, Applier: b.applier})
}

func (b *timeSeriesBackend) run(context.Context) {}

func (b *timeSeriesBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	_, more, err = b.applier.Sweep(ctx, p, seriesSettings(b.st.x.ns.Config()), limit)
	return more, err
}

// due: tokens are forgotten and slices dropped by log time, which an idle log does not
// move on.
func (b *timeSeriesBackend) due(p wal.Partition, now int64) bool {
	return b.st.owesTokens(b.applier.Part(p), now) || b.applier.Due(p, now, seriesSettings(b.st.x.ns.Config()))
}
