package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine describes where the results are from, in words that name no host.
type machine struct {
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Go   string `json:"go"`
	// FsyncMicros is the median of an append of 4 KiB and its fsync, on the disk
	// that is measured.
	FsyncMicros float64 `json:"fsyncMicros"`
}

func (m machine) String() string {
	return fmt.Sprintf("%d CPUs, %s, %s, fsync of 4 KiB %.0f us", m.CPUs, m.OS, m.Go, m.FsyncMicros)
}

func (h *harness) describe() error {
	h.machine = machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	f, err := os.Create(filepath.Join(h.dir, "fsync"))
	if err != nil {
		return fmt.Errorf("measure fsync: %w", err)
	}
	defer func() { _ = f.Close() }()
	defer func() { _ = os.Remove(f.Name()) }()
	var took []float64
	for range 500 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return fmt.Errorf("measure fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("measure fsync: %w", err)
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1000)
	}
	h.machine.FsyncMicros = median(took)
	return nil
}

// usage is the CPU time used so far, in clock ticks: by the whole machine, and
// by the processes of the harness.
type usage struct {
	h         *harness
	at        time.Time
	all, ours int64
}

// ticks is USER_HZ, which is 100 wherever Linux runs Go.
const ticks = 100

// watch begins to watch who uses the CPUs. Where the system does not tell, no
// use is seen.
func (h *harness) watch() usage {
	u := usage{h: h, at: time.Now(), all: machineTicks()}
	for _, pid := range append([]int{os.Getpid()}, h.watched...) {
		u.ours += processTicks(pid)
	}
	return u
}

// elsewhere is how many CPUs other processes have used since, on average.
func (u usage) elsewhere() float64 {
	now := u.h.watch()
	return max(0, float64((now.all-u.all)-(now.ours-u.ours))/ticks/now.at.Sub(u.at).Seconds())
}

// machineTicks sums user, nice, system, irq, softirq and steal of /proc/stat.
func machineTicks() (n int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		switch i {
		case 1, 2, 3, 6, 7, 8:
			v, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0
			}
			n += v
		}
	}
	return n
}

// processTicks is what a process and its children that have ended have used; 0
// when it is gone.
func processTicks(pid int) (n int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name before it may hold anything
	if !ok {
		return 0
	}
	fields := strings.Fields(rest)
	for i := 11; i <= 14 && i < len(fields); i++ { // utime, stime, cutime, cstime
		v, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		n += v
	}
	return n
}
