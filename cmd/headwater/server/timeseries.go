package server

import (
	"cmp"
	"context"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/timeseries/clickhousets"
	"github.com/headwater-db/headwater/timeseries/pebblets"
	"github.com/headwater-db/headwater/timeseries/tsremote"
	"github.com/headwater-db/headwater/wal"
)

// timeSeriesFront is what takes the calls of a time-series namespace.
type timeSeriesFront struct {
	*timeseries.Local
	db *timeseries.DB
}

func (x *space) newTimeSeriesFront() *timeSeriesFront {
	f := &timeSeriesFront{Local: timeseries.NewLocal(x.progress)}
	f.db = x.newTimeSeriesDB(f.Local)
	return f
}

func (x *space) newTimeSeriesDB(owner timeseries.Owner) *timeseries.DB {
	x.wide = wideSeries{buckets: make(chan int, 1)}
	x.ns.TimeSeries = timeseries.NewDB(timeseries.DBConfig{
		Stream: x.ns.Stream, Owner: owner, Clock: &x.s.spaces.clock, Now: x.s.broker.Now, BufferedLoss: x.s.broker.BufferedLoss(),
		Options: func() *timeseries.Options {
			c := x.ns.Config()
			return &timeseries.Options{FrontOptions: frontOptions(c), Settings: *x.seriesSettings(c), ReadMax: c.SLO.Read.Max}
		},
		Wide: x.wide.found,
	})
	x.work.Go(func() { x.wide.widen(x.run, x) })
	return x.ns.TimeSeries
}

// wideSeries has the event buckets of a slice in which a series was found to be wide.
type wideSeries struct{ buckets chan int }

// found asks for more event buckets than those of a slice that was found to be wide.
func (w wideSeries) found(buckets int) {
	select {
	case w.buckets <- buckets:
	default: // one is asked for
	}
}

// widen gives new slices more event buckets where a wide series was found in one that has as many as new
// slices have, until ctx is done. A slice that is there keeps its own, so a series is found again in the
// next one before they are raised once more.
func (w wideSeries) widen(ctx context.Context, x *space) {
	for {
		var buckets int
		select {
		case buckets = <-w.buckets:
		case <-ctx.Done():
			return
		}
		if now := x.ns.Config().TimeSeries.EventBuckets; now > buckets || now >= namespace.MostEventBuckets {
			continue
		}
		switch err := x.s.names.RaiseEventBuckets(ctx, x.ns.Name, buckets, "wide series"); {
		case err == nil:
			x.s.log.Info("a series is wide; new slices get more event buckets", "namespace", x.ns.Name, "buckets of its slice", buckets)
		case ctx.Err() == nil:
			x.s.log.Warn("event buckets of new slices could not be raised; it is tried again at the next wide read", "namespace", x.ns.Name, "reason", err)
		}
	}
}

func (f *timeSeriesFront) noteTokens(n int64) { f.db.NoteUsage(n) }

// token implements answering.
func (f *timeSeriesFront) token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	return tsremote.Token(ctx, f.Local, p, id)
}

// answer implements answering.
func (f *timeSeriesFront) answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	return tsremote.Answer(ctx, f.Local, req)
}

func (f *timeSeriesFront) answerParts(ctx context.Context, req *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error {
	return tsremote.AnswerParts(ctx, f.Local, req, send)
}

// lastSettings are those of the configuration that was last asked for: a call and a record need
// them, and 10,000 blocked series are a map.
type lastSettings struct {
	of       *namespace.Config
	settings *timeseries.Settings
}

// seriesSettings are what a configuration says to events. They are not changed.
func (x *space) seriesSettings(c *namespace.Config) *timeseries.Settings {
	if last := x.lastSettings.Load(); last != nil && last.of == c {
		return last.settings
	}
	s := seriesSettings(c)
	x.lastSettings.Store(&lastSettings{c, s})
	return s
}

func seriesSettings(c *namespace.Config) *timeseries.Settings {
	t, l := &c.TimeSeries, &c.Lifecycle
	set := &timeseries.Settings{
		TokenWindow: c.Tokens.Window, Slice: t.Slice, EventBuckets: t.EventBuckets, AcceptLimit: t.AcceptLimit, AcceptFuture: t.AcceptFuture,
		CloseAfter: l.CloseAfter, DeleteAfter: l.DeleteAfter, Index: timeseries.NewIndexKeys(t.Index),
	}
	for _, s := range t.Blocked {
		if set.Blocked == nil {
			set.Blocked = make(map[string]bool, len(t.Blocked))
		}
		set.Blocked[s] = true
	}
	return set
}

// timeSeriesBackend is a store of events.
type timeSeriesBackend struct {
	st      *store
	events  timeseries.Store
	applier *timeseries.Applier
}

func (b *timeSeriesBackend) open(cfg pebblestore.Config) (l ledger, err error) {
	conf := b.st.conf
	if !isRemote(conf) {
		s, err := pebblets.Open(cfg)
		b.events = s
		return s, err
	}
	cluster, err := clusterOf[*clickhousestore.Cluster](b.st.x.s, conf.Cluster)
	if err != nil {
		return nil, err
	}
	s, err := clickhousets.Open(clickhousets.Config{Ledger: cfg, Cluster: cluster, Dataset: cmp.Or(conf.Dataset, b.st.x.entry.Name)})
	b.events = s
	return s, err
}

func (b *timeSeriesBackend) load() *consumers.Loop {
	b.applier = timeseries.NewApplier(timeseries.ApplierConfig{LoopConfig: b.st.loopConfig(), Store: b.events, Settings: b.settings})
	return b.applier.Loop
}

// settings are those of the version that a record was accepted under.
func (b *timeSeriesBackend) settings(version uint64) (*timeseries.Settings, error) {
	c, err := b.st.x.configAt(version)
	if err != nil {
		return nil, err
	}
	return b.st.x.seriesSettings(c), nil
}

// save: every batch is saved as it is applied.
func (b *timeSeriesBackend) save(context.Context, wal.Partition) error { return nil }

func (b *timeSeriesBackend) view(ctx context.Context, p wal.Partition) (view, wal.Offset, error) {
	v, err := b.events.Snapshot(ctx, p)
	if err != nil {
		return nil, wal.NoOffset, err
	}
	return v, v.State().Applied, nil
}

func (b *timeSeriesBackend) compare(ctx context.Context, c *comparison) error {
	a := c.a.(timeseries.Snapshot)
	return timeseries.Compare(ctx, c.p, a, c.b.(timeseries.Snapshot), b.st.x.seriesSettings(b.st.x.ns.Config()).OpenAt(a.State().LogTime), c.report, c.looked)
}

func (b *timeSeriesBackend) serve(p wal.Partition) {
	b.st.x.front.(*timeSeriesFront).Set(p, &timeseries.Replica{Store: b.events, Applier: b.applier})
}

func (b *timeSeriesBackend) run(context.Context) {}

func (b *timeSeriesBackend) sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error) {
	_, more, err = b.applier.Sweep(ctx, p, b.st.x.seriesSettings(b.st.x.ns.Config()), limit)
	return more, err
}

// due: tokens are forgotten and slices dropped by log time, which an idle log does not
// move on.
func (b *timeSeriesBackend) due(p wal.Partition, now int64) bool {
	return b.st.owesTokens(b.applier.Part(p), now) || b.applier.Due(p, now, b.st.x.seriesSettings(b.st.x.ns.Config()))
}

// filledAtOnce is how many events a batch has while a store is filled.
const filledAtOnce = 5_000

// fill implements filler. The events stand before everything that the log has.
func (b *timeSeriesBackend) fill(ctx context.Context, p wal.Partition, from view) error {
	st, err := b.events.State(ctx, p)
	if err != nil {
		return err
	}
	batch, n := b.events.Begin(p), 0
	defer func() { batch.Abort() }()
	known := b.events.Slices(p)
	var items []byte
	err = from.(timeseries.Snapshot).Scan(ctx, timeseries.OpenSlices{}, func(in timeseries.Slice, e *timeseries.Event) error {
		if _, there := known.Of(in.Start); !there {
			batch.AddSlice(in)
			known = known.With(in)
		}
		items = timeseries.AppendItems(items[:0], e.Items)
		batch.AddEvent(timeseries.Order{Decided: wal.NoOffset, Record: wal.NoOffset}, in, e.Series, e.Time, e.ID, items)
		if n++; n%filledAtOnce > 0 {
			return nil
		}
		err := batch.Commit(ctx, st)
		batch = b.events.Begin(p)
		return err
	})
	if err != nil {
		return err
	}
	return batch.Commit(ctx, st)
}
