package wal

// heavyRecord is a record of several mutations that is acknowledged and not
// applied.
type heavyRecord struct {
	offset Offset
	more   int64 // mutations beyond one
}

// weigh notes that a record of so many mutations is acknowledged at o.
func (s *Stream) weigh(p Partition, weight int, o Offset) {
	if weight <= 1 {
		return
	}
	part := &s.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	if n := len(part.heavy); n > 0 && int64(n) >= s.cfg.MaxUnapplied { // see LetBehind
		last := &part.heavy[n-1]
		last.offset, last.more = max(last.offset, o), last.more+int64(weight-1)
	} else {
		part.heavy = append(part.heavy, heavyRecord{o, int64(weight - 1)})
	}
	part.more.Add(int64(weight - 1))
	part.lighten(s.cfg.Progress.Applied(p)) // it may be applied already
}

// lighten takes out what is applied up to o. One that stands behind a later record
// goes a moment later. The caller holds mu.
func (p *streamPart) lighten(o Offset) {
	n := 0
	for n < len(p.heavy) && p.heavy[n].offset <= o {
		p.more.Add(-p.heavy[n].more)
		n++
	}
	if p.heavy = p.heavy[n:]; len(p.heavy) == 0 {
		p.heavy = nil
	}
}
