package durable

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Config is what a Local is made of.
type Config struct {
	Log      wal.Log
	Progress *wal.Progress // how far the log is decided
	// States opens the topic of the states, with the partitions of the log. Without create it is nil where there is none.
	States func(ctx context.Context, create bool) (wal.Log, error)
	// Held is the epoch of the claim by which this process holds a partition.
	Held func(p wal.Partition) (epoch wal.Offset, ok bool)
	// Judge tells what is known of records that are decided, one verdict for each.
	Judge func(ctx context.Context, p wal.Partition, entries []wal.Entry) ([]Verdict, error)
	// GaveUp writes dead letters; of the same records again it changes nothing.
	GaveUp func(ctx context.Context, p wal.Partition, given []GivenUp) error
	Now    func() time.Time // the log's clock; see wal.Broker.Now
	// Readers are shared with others; nil: it has its own.
	Readers *Readers
	Logger  *slog.Logger
}

// Local is the Owner of the partitions that this process holds. Safe for concurrent use.
type Local struct {
	cfg    Config
	parts  []slot
	warned time.Time // of Run alone
}

// slot is a partition, opened or not.
type slot struct {
	opening chan struct{} // holds one: who opens or closes it
	mu      sync.Mutex    // guards part
	part    *part
}

var _ Owner = (*Local)(nil)

// New returns a Local that has read nothing yet. Run it until the log is closed.
func New(cfg Config) *Local {
	if cfg.Readers == nil {
		cfg.Readers = NewReaders(DefaultReaders, cfg.Logger)
	}
	l := &Local{cfg: cfg, parts: make([]slot, cfg.Log.Info().Partitions)}
	for i := range l.parts {
		l.parts[i].opening = make(chan struct{}, 1)
	}
	return l
}

func (s *slot) get() *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part
}

func (s *slot) set(pt *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = pt
}

// of is a partition that this process holds, with what the topic says of it; create makes the topic.
func (l *Local) of(ctx context.Context, p wal.Partition, create bool) (*part, error) {
	s := &l.parts[p]
	usable := func() (*part, wal.Offset, error) {
		epoch, ok := l.cfg.Held(p)
		if !ok {
			return nil, 0, fmt.Errorf("partition %d: %w", p, ErrNotHere)
		}
		if pt := s.get(); pt != nil && pt.epoch == epoch && (pt.states != nil || !create) {
			return pt, epoch, nil
		}
		return nil, epoch, nil
	}
	if pt, _, err := usable(); pt != nil || err != nil {
		return pt, err
	}
	select {
	case s.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("open the consumers of partition %d: %w", p, ctx.Err())
	}
	defer func() { <-s.opening }()
	pt, epoch, err := usable()
	if pt != nil || err != nil {
		return pt, err
	}
	states, err := l.cfg.States(ctx, create)
	if err == nil {
		pt, err = l.openPart(ctx, p, epoch, states)
	}
	if err != nil {
		return nil, fmt.Errorf("open the consumers of partition %d: %w", p, err)
	}
	old := s.get()
	s.set(pt)
	if old != nil {
		err = old.close()
	}
	return pt, err
}

// idleReader is how long a reader stays open that nobody reads from, keepEvery how often that is looked at.
// warnEvery is how often it is said that it fails: in an outage it does for every partition, each time.
const (
	idleReader = 10 * time.Second
	keepEvery  = time.Second
	warnEvery  = time.Minute
	// closeFor bounds what is saved at the end: what is not is handed out again.
	closeFor = 5 * time.Second
)

// Run keeps what was opened until ctx is done, and closes it.
func (l *Local) Run(ctx context.Context) {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		for i := range l.parts {
			l.look(ctx, wal.Partition(i), true)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
	defer cancel()
	for i := range l.parts {
		l.look(last, wal.Partition(i), false)
	}
}

// look opens a partition that was taken, keeps one that is held, and closes one that is not.
func (l *Local) look(ctx context.Context, p wal.Partition, running bool) {
	pt, err := (*part)(nil), error(nil)
	if _, held := l.cfg.Held(p); held && running {
		if pt, err = l.of(ctx, p, false); err == nil {
			err = pt.keep(ctx, idleReader)
		}
	} else if pt = l.parts[p].get(); pt != nil {
		l.parts[p].set(nil)
		if held { // the process ends
			err = pt.keep(ctx, 0)
		}
		if cerr := pt.close(); err == nil {
			err = cerr
		}
	}
	if err != nil && ctx.Err() == nil && time.Since(l.warned) > warnEvery {
		l.warned = time.Now()
		l.cfg.Logger.Warn("what is known of consumers was not kept; it is tried again", "topic", l.cfg.Log.Info().Name, "partition", uint32(p), "reason", err)
	}
}

// Fetch implements Owner.
func (l *Local) Fetch(ctx context.Context, p wal.Partition, f *Fetch) (out Fetched, err error) {
	pt, err := l.of(ctx, p, true)
	if err != nil {
		return out, err
	}
	m, made, err := pt.make(ctx, f.Consumer)
	if err != nil {
		return out, err
	}
	if made {
		if err := pt.save(ctx, m); err != nil {
			return out, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil { // nobody would have what is handed out
		return out, ctx.Err()
	}
	return m.fetch(ctx, f)
}

// Ack implements Owner.
func (l *Local) Ack(ctx context.Context, p wal.Partition, consumer string, acks []Ack) (expired []int, err error) {
	pt, err := l.of(ctx, p, false)
	if err != nil {
		return nil, err
	}
	m := pt.member(consumer)
	if m == nil {
		for i := range acks {
			expired = append(expired, i)
		}
		return expired, nil
	}
	m.mu.Lock()
	err = m.learn(ctx)
	if err == nil {
		expired = m.ack(acks)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return expired, pt.save(ctx, m)
}

// Wait implements Owner.
func (l *Local) Wait(ctx context.Context, p wal.Partition, consumer string) error {
	for {
		pt, err := l.of(ctx, p, false)
		if err != nil {
			return err
		}
		m := pt.member(consumer)
		if m == nil {
			return nil
		}
		m.mu.Lock()
		now, at := m.soon()
		changed, next := m.changed, m.Next
		m.mu.Unlock()
		if now {
			return nil
		}
		if err := l.waitOnce(ctx, p, changed, next, at); err != nil {
			return err
		}
	}
}

// waitOnce returns when something has happened since.
func (l *Local) waitOnce(ctx context.Context, p wal.Partition, changed <-chan struct{}, next wal.Offset, at int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	applied := make(chan error, 1)
	go func() { applied <- l.cfg.Progress.Wait(ctx, p, next) }()
	var end <-chan time.Time
	if at != 0 {
		t := time.NewTimer(max(time.Duration(at-l.cfg.Now().UnixMicro())*time.Microsecond, time.Millisecond))
		defer t.Stop()
		end = t.C
	}
	select {
	case err := <-applied:
		return err
	case <-changed:
	case <-end:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Apply implements Owner.
func (l *Local) Apply(ctx context.Context, p wal.Partition, consumer string, c *Change) error {
	pt, err := l.of(ctx, p, true)
	if err != nil {
		return err
	}
	m, made, err := pt.make(ctx, consumer)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.change(c, made)
	m.mu.Unlock()
	return pt.save(ctx, m)
}

// change puts what is not nil into force.
func (m *member) change(c *Change, made bool) {
	if c.From != nil {
		m.begin(*c.From)
		if !made { // what was handed out is no longer the callers'
			m.Life = max(m.Life+1, m.pt.now())
		}
	}
	if c.MaxInFlight != nil {
		m.Settings.MaxInFlight = *c.MaxInFlight
	}
	if c.AckWait != nil {
		m.Settings.AckWait = *c.AckWait
	}
	if c.MaxAttempts != nil {
		m.Settings.MaxAttempts = *c.MaxAttempts
	}
	m.touch()
	m.wake()
}

// begin has the member forget what it knows, and go on at an offset.
func (m *member) begin(at wal.Offset) {
	m.open, m.inFlight, m.Next = nil, 0, at
	clear(m.at)
	clear(m.keys)
	clear(m.ended)
	clear(m.dead)
}

// Delete implements Owner.
func (l *Local) Delete(ctx context.Context, p wal.Partition, consumer string) error {
	pt, err := l.of(ctx, p, false)
	if err != nil || pt.states == nil {
		return err
	}
	m := pt.member(consumer)
	if m == nil {
		return nil
	}
	m.mu.Lock()
	m.begin(m.Next)
	m.Gone, m.Life = true, max(m.Life+1, m.pt.now())
	m.touch()
	m.wake()
	m.mu.Unlock()
	return pt.save(ctx, m)
}

// List implements Owner.
func (l *Local) List(ctx context.Context, p wal.Partition) (out []Info, err error) {
	pt, err := l.of(ctx, p, false)
	if err != nil {
		return nil, err
	}
	for _, m := range pt.all() {
		if i, alive := m.info(); alive {
			out = append(out, i)
		}
	}
	return out, nil
}

// Dead implements Owner.
func (l *Local) Dead(ctx context.Context, p wal.Partition, consumer string) (out []Dead, err error) {
	pt, err := l.of(ctx, p, false)
	if err != nil {
		return nil, err
	}
	for _, m := range pt.all() {
		if consumer != "" && consumer != m.name {
			continue
		}
		m.mu.Lock()
		for o, attempts := range m.dead {
			out = append(out, Dead{m.name, o, attempts})
		}
		m.mu.Unlock()
	}
	return out, nil
}

// Revive implements Owner.
func (l *Local) Revive(ctx context.Context, p wal.Partition, consumer string, o wal.Offset, drop bool, by string) (was bool, err error) {
	pt, err := l.of(ctx, p, false)
	if err != nil {
		return false, err
	}
	m := pt.member(consumer)
	if m == nil {
		return false, nil
	}
	m.mu.Lock()
	was, err = m.revive(ctx, o, drop, by)
	m.mu.Unlock()
	if !was || err != nil {
		return false, err
	}
	return true, pt.save(ctx, m)
}

// Opened are the consumers of what is open here, and asks nobody.
func (l *Local) Opened(p wal.Partition) (out []Info) {
	pt := l.parts[p].get()
	if pt == nil {
		return nil
	}
	for _, m := range pt.all() {
		if i, alive := m.info(); alive {
			out = append(out, i)
		}
	}
	return out
}

// info is how a member stands.
func (m *member) info() (i Info, alive bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(m.pt.now())
	applied := m.pt.l.cfg.Progress.Applied(m.pt.p)
	i = Info{
		Name: m.name, Settings: m.Settings, Lag: max(int64(applied+1-m.Next), 0) + int64(len(m.at)), InFlight: int64(m.inFlight),
		Missed: m.Missed, GivenUp: m.GivenUp,
	}
	for _, x := range m.open {
		if !x.done && !x.leased && x.attempts > 0 {
			i.Redelivering++
		}
	}
	return i, !m.Gone
}
