package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwater-db/headwater/gateway"
)

// keptJob is the file of a job that the next start is to go on with. A gateway keeps nothing: its jobs end with it.
type keptJob struct {
	js    *jobs
	name  string // "": there is none
	d     gateway.Disposal
	total int64
}

// jobsDir is where jobs are kept.
func (d *dataDir) jobsDir() string { return filepath.Join(d.path, "jobs") }

const jobSuffix = ".json"

// keep writes what a job is made of.
func (js *jobs) keep(d *gateway.Disposal) (*keptJob, error) {
	k := &keptJob{js: js, d: *d, total: d.Left}
	if js.s.cfg.Role == Gateway {
		return k, nil
	}
	if err := os.MkdirAll(js.s.dir.jobsDir(), 0o755); err != nil {
		return nil, fmt.Errorf("keep a job: %w", err)
	}
	k.name = filepath.Join(js.s.dir.jobsDir(), d.Job+jobSuffix)
	return k, k.write()
}

func (k *keptJob) write() error {
	b, err := json.Marshal(&k.d)
	if err != nil {
		return fmt.Errorf("keep job %s: %w", k.d.Job, err)
	}
	return writeSynced(k.name, b)
}

// progress notes how many are done, where there is a maximum: the one in hand counts, so that it is never passed.
func (k *keptJob) progress(done int64) {
	if k.name == "" || !k.d.Limited || done == k.total {
		return
	}
	k.d.Left = k.total - done - 1
	if err := k.write(); err != nil {
		k.js.s.log.Warn("how far a job is was not written", "job", k.d.Job, "reason", err)
	}
}

func (k *keptJob) remove() error {
	if k.name == "" {
		return nil
	}
	if err := os.Remove(k.name); err != nil {
		return fmt.Errorf("forget job %s: %w", k.d.Job, err)
	}
	return nil
}

// resume goes on with the jobs that the process before had not ended, each once its namespace is ready.
func (js *jobs) resume(ctx context.Context, log *gateway.Log) {
	if js.s.cfg.Role == Gateway {
		return
	}
	entries, err := os.ReadDir(js.s.dir.jobsDir())
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			js.s.log.Warn("jobs of before are not gone on with", "reason", err)
		}
		return
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), jobSuffix) {
			continue
		}
		name := filepath.Join(js.s.dir.jobsDir(), e.Name())
		if err := js.resumeOne(ctx, log, name); err != nil && ctx.Err() == nil {
			js.s.log.Warn("a job of before is not gone on with; it is tried again at the next start", "file", name, "reason", err)
		}
	}
}

func (js *jobs) resumeOne(ctx context.Context, log *gateway.Log, name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read a job: %w", err)
	}
	var d gateway.Disposal
	if err := json.Unmarshal(b, &d); err != nil {
		return fmt.Errorf("read a job: %w", err)
	}
	if x := js.s.spaces.named(d.Namespace); x != nil {
		if err := x.waitReady(ctx); err != nil {
			return err
		}
	}
	if err := log.Resume(ctx, &d); errors.Is(err, gateway.ErrJobOver) {
		return os.Remove(name)
	} else if err != nil {
		return err
	}
	js.s.log.Info("a job of before goes on", "job", d.Job, "namespace", d.Namespace)
	return nil
}
