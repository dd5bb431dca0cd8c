package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblecompact"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// Open opens the log in cfg.Dir, making it if the directory is empty or absent. It
// replays what a crash left, checks it against what the last run knew to be
// durable, and returns with the log ready for appends. A directory that another
// process holds, or damage, is an error.
func Open(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, log: cfg.Logger,
		topics: map[string]*topic{}, readers: map[*reader]struct{}{},
		inFlight: make(chan inFlight, inFlightGroups),
		closedCh: make(chan struct{}), stopping: make(chan struct{}),
		writing: make(chan struct{}, 1),
	}
	b.fault = pebblefail.New(wal.ErrFailed, b.failed)
	b.queue.more = make(chan struct{}, 1)
	b.clock.start(cfg.Now())
	if b.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", cfg.Dir, err)
	}
	if err := b.open(); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", cfg.Dir, err)
	}
	b.loops.Add(3)
	go func() { defer b.loops.Done(); b.commitLoop() }()
	go func() { defer b.loops.Done(); b.finishLoop() }()
	go func() { defer b.loops.Done(); b.housekeep() }()
	return b, nil
}

func (b *Broker) open() (err error) {
	fs, dir := b.cfg.FS, b.cfg.Dir
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if b.lock, err = pebble.LockDirectory(dir, fs); err != nil {
		return fmt.Errorf("lock directory (is another process using it?): %w", err)
	}
	defer func() {
		if err != nil {
			err = b.fault.GiveUp(err, b.lock.Close)
		}
	}()
	known, err := readEnds(fs, dir)
	if err != nil {
		return err
	}
	if err := checkWALs(fs, dir); err != nil {
		return err
	}
	keep, compactions := &keepFS{FS: fs}, pebblecompact.New()
	disk := b.fault.FS(keep)
	cache := pebble.NewCache(b.cfg.CacheBytes)
	defer cache.Unref() // the database holds its own reference
	if b.db, err = b.openPebble(disk, cache, compactions); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = b.fault.GiveUp(err, b.db.Close)
		}
	}()
	if err := b.load(known); err != nil {
		return err
	}
	if err := keep.release(); err != nil {
		return fmt.Errorf("remove files that are no longer needed: %w", err)
	}
	compactions.Begin()
	b.checkSpace()
	return nil
}

func (b *Broker) openPebble(fs *pebblefail.FS, cache *pebble.Cache, compactions pebble.CompactionScheduler) (*pebble.DB, error) {
	opts := &pebble.Options{
		Lock: b.lock, Cache: cache,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       uint64(b.cfg.MemTableBytes),
		// Appends must not wait for a flush that is a little late, nor for the
		// compaction of files that hardly overlap.
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                1000,
		BytesPerSync:                1 << 20,
	}
	opts.Experimental.CompactionScheduler = compactions
	// Records are the callers' bytes, often compressed by them; keys are read in
	// order, never by lookup of what may not be there, so no filters.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range opts.Levels {
		opts.Levels[i].BlockSize = 32 << 10
		opts.Levels[i].IndexBlockSize = 64 << 10
	}
	return b.fault.Open(b.cfg.Dir, fs, b.log, opts)
}

// load reads the registry and finds the edges of every partition without reading
// the records between.
func (b *Broker) load(known partitionEndsByTopic) error {
	format, err := b.getMeta(keyFormat)
	if err != nil {
		return err
	}
	switch {
	case format == nil && len(known) > 0:
		return fmt.Errorf("%w: %s is here but the log's files are not", wal.ErrCorrupt, endsFile)
	case format == nil:
		return b.initialise()
	case len(format) != 4 || binary.BigEndian.Uint32(format) != formatVersion:
		return fmt.Errorf("log format %x is not known to this version; it knows %d", format, formatVersion)
	case known == nil:
		return fmt.Errorf("%w: file %s is missing", wal.ErrCorrupt, endsFile)
	}
	next, err := b.getMeta(keyNextID)
	if err != nil {
		return err
	}
	if len(next) != 4 {
		return fmt.Errorf("%w: next topic id of %d bytes", wal.ErrCorrupt, len(next))
	}
	b.nextID = binary.BigEndian.Uint32(next)
	if err := b.loadTopics(); err != nil {
		return err
	}
	return b.checkEnds(known)
}

// initialise makes an empty log, also where an earlier start came to an end in the
// middle of it. ENDS comes first: a log that has a format has it.
func (b *Broker) initialise() error {
	if err := writeEnds(b.cfg.FS, b.cfg.Dir, nil); err != nil {
		return err
	}
	batch := b.db.NewBatch()
	err := errors.Join(
		batch.Set(keyFormat, binary.BigEndian.AppendUint32(nil, formatVersion), nil),
		batch.Set(keyNextID, binary.BigEndian.AppendUint32(nil, 1), nil),
	)
	b.nextID = 1
	if err == nil {
		err = b.syncWrite(batch)
	}
	if err == nil {
		// The WAL of a new database is begun in an old format, without the synced
		// offsets that tell damage from a torn write. A flush begins the next one.
		err = b.fault.Guard(b.db.Flush)
	}
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	return nil
}

// getMeta returns nil when the key is absent.
func (b *Broker) getMeta(key []byte) ([]byte, error) {
	v, closer, err := b.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, b.openError(fmt.Sprintf("read %s", key), err)
	}
	v = append([]byte{}, v...)
	return v, closer.Close()
}

func (b *Broker) openError(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %s: %w", wal.ErrCorrupt, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (b *Broker) loadTopics() (err error) {
	iter, err := b.db.NewIter(&pebble.IterOptions{LowerBound: []byte{familyTopic}, UpperBound: []byte{familyTopic + 1}})
	if err != nil {
		return b.openError("read registry", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		name := string(iter.Key()[1:])
		v, err := iter.ValueAndErr()
		if err != nil {
			return b.openError("read registry", err)
		}
		id, partitions, inc, err := decodeTopic(name, v)
		if err != nil {
			return err
		}
		if id >= b.nextID {
			return &wal.CorruptError{Topic: name, Offset: wal.NoOffset, Detail: fmt.Sprintf("id %d was never given", id)}
		}
		t := b.newTopic(id, name, partitions, inc)
		if err := t.loadBounds(); err != nil {
			return err
		}
		b.topics[name] = t
	}
	if err := iter.Error(); err != nil {
		return b.openError("read registry", err)
	}
	return nil
}

// loadBounds finds floor and end of every partition. Both edge records are read
// and checked.
func (t *topic) loadBounds() (err error) {
	low, high := topicSpan(familyRecord, t.id)
	iter, err := t.b.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		return t.b.openError("read topic "+t.info.Name, err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for _, ps := range t.parts {
		if err := t.loadPartition(ps, iter); err != nil {
			return err
		}
	}
	return nil
}

func (t *topic) loadPartition(ps *partition, iter *pebble.Iterator) error {
	v, err := t.b.getMeta(floorKey(t.id, ps.p))
	if err != nil {
		return ps.corrupt(wal.NoOffset, err)
	}
	floor := wal.Offset(0)
	if v != nil {
		var logTime int64
		if floor, logTime, err = decodeFloor(ps.seed, v); err != nil {
			return ps.corruptf(wal.NoOffset, "%v", err)
		}
		t.b.clock.raise(logTime)
	}
	end := floor
	if iter.SeekLT(partitionEnd(t.id, ps.p)) && isPartition(iter.Key(), t.id, ps.p) {
		last, logTime, err := ps.edge(iter)
		if err != nil {
			return err
		}
		t.b.clock.raise(logTime)
		end = max(floor, last+1)
	}
	if err := iter.Error(); err != nil {
		return ps.corrupt(wal.NoOffset, err)
	}
	if floor < end {
		iter.SeekGE(recordKey(t.id, ps.p, floor))
		if err := iter.Error(); err != nil {
			return ps.corrupt(floor, err)
		}
		first, _, err := ps.edge(iter)
		if err != nil {
			return err
		}
		if first != floor {
			return ps.corruptf(floor, "record is missing, the first one is %d", first)
		}
	}
	ps.floor.Store(int64(floor))
	ps.end.Store(int64(end))
	ps.next = end
	return nil
}

// edge reads and checks the record under iter.
func (ps *partition) edge(iter *pebble.Iterator) (wal.Offset, int64, error) {
	o, ok := offsetOfKey(iter.Key())
	if !ok {
		return 0, 0, ps.corruptf(wal.NoOffset, "key of %d bytes", len(iter.Key()))
	}
	v, err := iter.ValueAndErr()
	if err != nil {
		return 0, 0, ps.corrupt(o, err)
	}
	logTime, _, err := readFrame(v, ps.seed, iter.Key()[offsetInKey:])
	if err != nil {
		return 0, 0, ps.corrupt(o, err)
	}
	return o, logTime, nil
}

func isPartition(k []byte, topic uint32, p wal.Partition) bool {
	return len(k) >= 9 && k[0] == familyRecord &&
		binary.BigEndian.Uint32(k[1:]) == topic && binary.BigEndian.Uint32(k[5:]) == uint32(p)
}
