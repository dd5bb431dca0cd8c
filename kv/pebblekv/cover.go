package pebblekv

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// cover answers which tombstone covers a key of one record, as of the moment
// that view is of. Range tombstones are looked at only where the summary says
// that they can matter, and then one seek finds the stretch of keys that has one
// answer.
type cover struct {
	view   *pebble.Iterator
	p      wal.Partition
	id     []byte
	sum    summary
	loaded bool
	layers []*layerCursor
}

// openCover reads the summary of a record. The caller keeps view and id until it
// has closed the cover.
func openCover(view *pebble.Iterator, p wal.Partition, id []byte) (c cover, err error) {
	c = cover{view: view, p: p, id: id}
	key := recordKey(p, id, kindSummary, 0)
	if !view.SeekPrefixGE(key) {
		return c, view.Error()
	}
	if !bytes.Equal(view.Key(), key) {
		return c, nil
	}
	v, err := view.ValueAndErr()
	if err != nil {
		return c, err
	}
	c.sum, err = parseSummary(v)
	return c, err
}

// at returns the newest tombstone that covers key, zero for none.
func (c *cover) at(key []byte) (newest [wal.VersionSize]byte, err error) {
	newest = c.sum.record
	if !c.sum.hasRanges() {
		return newest, nil
	}
	if !c.loaded {
		if err := c.load(); err != nil {
			return newest, err
		}
	}
	for _, l := range c.layers {
		v, err := l.at(key)
		if err != nil {
			return newest, err
		}
		if bytes.Compare(v[:], newest[:]) > 0 {
			newest = v
		}
	}
	return newest, nil
}

// hides reports whether the cell of a key, which begins with its version, is
// deleted by a tombstone.
func (c *cover) hides(key, cell []byte) (bool, error) {
	ver := cell[:wal.VersionSize]
	if bytes.Compare(ver, c.sum.record[:]) <= 0 {
		return true, nil
	}
	if bytes.Compare(ver, c.sum.ranges[:]) > 0 {
		return false, nil
	}
	v, err := c.at(key)
	return bytes.Compare(ver, v[:]) <= 0, err
}

// load finds the layers that the record has.
func (c *cover) load() error {
	c.loaded = true
	lo, hi := recordKey(c.p, c.id, kindRange, 0), recordKey(c.p, c.id, kindItem, 0)
	it, err := c.view.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lo, UpperBound: hi}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		if len(k) <= len(lo) {
			return errors.Join(kv.ErrBadCell, it.Close())
		}
		layer := k[len(lo)]
		l, err := c.openLayer(layer)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		c.layers = append(c.layers, l)
		if layer == 255 {
			break
		}
		ok = it.SeekGE(append(append(lo[:len(lo):len(lo)], layer), 0xff))
		for ok && it.Key()[len(lo)] == layer { // starts that begin with 0xff
			ok = it.SeekGE(append(lo[:len(lo):len(lo)], layer+1))
		}
	}
	return it.Close()
}

func (c *cover) openLayer(layer byte) (*layerCursor, error) {
	prefix := layerKey(c.p, c.id, layer, nil)
	hi := recordKey(c.p, c.id, kindItem, 0)
	if layer < 255 {
		hi = layerKey(c.p, c.id, layer+1, nil)
	}
	it, err := c.view.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: prefix, UpperBound: hi}})
	if err != nil {
		return nil, err
	}
	return &layerCursor{it: it, prefix: prefix}, nil
}

func (c *cover) close() error {
	var err error
	for _, l := range c.layers {
		err = errors.Join(err, l.it.Close())
	}
	c.layers, c.loaded = nil, false
	return err
}

// layerCursor knows the stretch of keys around the last one asked for that has
// the same answer in its layer: a fragment, or a gap between two.
type layerCursor struct {
	it      *pebble.Iterator
	prefix  []byte
	seek    []byte // scratch
	known   bool
	lo, hi  []byte // lo inclusive, hi exclusive
	open    bool   // no hi
	version [wal.VersionSize]byte
}

func (l *layerCursor) at(key []byte) ([wal.VersionSize]byte, error) {
	if l.known && bytes.Compare(l.lo, key) <= 0 && (l.open || bytes.Compare(key, l.hi) < 0) {
		return l.version, nil
	}
	// The fragment that starts at or below the key is the only one that can hold it.
	l.seek = append(append(append(l.seek[:0], l.prefix...), key...), 0)
	l.known, l.lo, l.hi, l.open, l.version = true, l.lo[:0], l.hi[:0], false, noVersion
	ok := l.it.SeekLT(l.seek)
	if ok {
		f, err := l.fragment()
		if err != nil {
			return noVersion, err
		}
		if !f.endsBy(key) {
			l.lo, l.hi = append(l.lo, f.start...), append(l.hi, f.end...)
			l.open, l.version = f.open, f.version
			return l.version, nil
		}
		l.lo = append(l.lo, f.end...)
		ok = l.it.Next()
	} else if err := l.it.Error(); err == nil {
		ok = l.it.First()
	}
	if err := l.it.Error(); err != nil {
		return noVersion, err
	}
	if !ok {
		l.open = true
		return noVersion, nil
	}
	l.hi = append(l.hi, l.it.Key()[len(l.prefix):]...)
	return noVersion, nil
}

func (l *layerCursor) fragment() (fragment, error) {
	v, err := l.it.ValueAndErr()
	if err != nil {
		return fragment{}, err
	}
	return parseFragment(l.it.Key()[len(l.prefix):], v)
}
