package kafkalog

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// replication is how a topic's records are copied, as the cluster tells.
type replication struct {
	replicas int // of the partition that has the fewest
	// minISR is min.insync.replicas; 0 where the cluster has no such setting:
	// Redpanda acknowledges what a majority of the replicas has.
	minISR  int
	unclean bool // a replica that lacks acknowledged records may become leader
}

// required is how many replicas have a record when it is acknowledged.
func (r replication) required() int {
	if r.minISR == 0 {
		return r.replicas/2 + 1
	}
	return min(r.minISR, r.replicas)
}

func (r replication) guarantee() (g wal.Guarantee, why string) {
	switch {
	case r.replicas < 2:
		return wal.Unreplicated, fmt.Sprintf("replication factor %d: a record is on one broker only", r.replicas)
	case r.required() < 2:
		return wal.Unreplicated, fmt.Sprintf("%s %d: a record may be on one broker only when it is acknowledged", minISRSetting, r.minISR)
	case r.unclean:
		return wal.Unreplicated, uncleanSetting + " true: a broker that lacks acknowledged records may become leader"
	}
	return wal.Quorum, ""
}

// worth is a topic's replication and what follows from it.
type worth struct {
	mu    sync.Mutex // serialises changes
	now   atomic.Pointer[replication]
	unfit string // a setting that Open would refuse by now, as the last look at the settings told
}

func (w *worth) change(f func(*replication)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.now.Load()
	is := *was
	if f(&is); is != *was {
		w.now.Store(&is)
	}
}

// Guarantee is what the topic's replicas and settings make of an
// acknowledgement, up to Config.CheckInterval old while the brokers answer.
func (l *Log) Guarantee() (g wal.Guarantee, why string) { return l.worth.now.Load().guarantee() }

// Guarantee is the weakest of the open topics, and that of a new topic where
// none is open.
func (b *Broker) Guarantee() wal.Guarantee {
	logs := b.openLogs()
	for _, l := range logs {
		if g, _ := l.Guarantee(); g != wal.Quorum {
			return g
		}
	}
	if len(logs) > 0 {
		return wal.Quorum
	}
	g, _ := replication{replicas: b.cfg.ReplicationFactor, minISR: b.cfg.MinISR}.guarantee()
	return g
}

// noteSettings takes what a look at the topic's settings has found.
func (l *Log) noteSettings(have map[string]string) {
	minISR, err := strconv.Atoi(have[minISRSetting])
	if err != nil {
		minISR = 0 // there is no such setting
	}
	l.worth.change(func(r *replication) { r.minISR, r.unclean = minISR, have[uncleanSetting] == "true" })
	unfit := ""
	if err := l.b.fit(have); err != nil {
		unfit = err.Error()
	}
	if unfit == l.worth.unfit {
		return
	}
	l.worth.unfit = unfit
	if unfit != "" {
		l.b.log.Error("the settings of a kafka topic were changed: it can lose acknowledged records, and is not opened again like this; set it back",
			"topic", l.info.Name, "reason", unfit)
		return
	}
	l.b.log.Info("the settings of a kafka topic are right again", "topic", l.info.Name)
}

// watchSettings looks at the settings of the open topics until Close: others can
// change them.
func (b *Broker) watchSettings() {
	ticker := time.NewTicker(b.cfg.CheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.readSettings()
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *Broker) readSettings() {
	logs := b.openLogs()
	if len(logs) == 0 {
		return
	}
	names := make([]string, len(logs))
	for i, l := range logs {
		names[i] = l.info.Name
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.CheckTimeout)
	defer cancel()
	have, err := b.describe(ctx, names...)
	if err != nil {
		b.log.Debug("read topic settings", "error", err)
		return // the settings known before stand
	}
	for _, l := range logs {
		if d := have[l.info.Name]; d.err == nil && len(d.settings) > 0 {
			l.noteSettings(d.settings)
		}
	}
}
