package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestRolesRefuseWhatCannotBeMeant: settings that a role cannot be run with end it before it opens anything,
// and say what to do.
func TestRolesRefuseWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	whole := "log: { type: kafka, brokers: [127.0.0.1:1], replication_factor: 3 }\ninternal: 127.0.0.1:0\nabstractions: [kv]\nhttp: 127.0.0.1:0\nfree_space_floor: 5\nnamespaces: [none-*.yaml]\n"
	for _, tt := range []struct {
		name string
		role func() *cobra.Command
		file string
		args []string
		want string
	}{
		{"gateway without brokers", newGateway, "http: 127.0.0.1:0\n", nil, "there are no brokers"},
		{"worker without brokers", newConsume, "", nil, "headwater dev needs none"},
		{"embedded log", newConsume, "log: { type: embedded }\n", nil, "there are no brokers"},
		{"two replicas", newGateway, "log: { type: kafka, brokers: [a:1], replication_factor: 2 }\n", nil, "--allow-unsafe"},
		{"no abstraction", newConsume, whole, []string{"--abstractions", "kv,blob"}, `"blob" is none of kv, counter, timeseries, log`},
		{"no pattern", newConsume, whole, []string{"--namespaces", "a[", "--abstractions", "kv"}, "--namespaces: pattern"},
		{"flag of another role", newGateway, whole, []string{"--internal", "127.0.0.1:0"}, "unknown flag: --internal"},
		{"data directory of a gateway", newGateway, whole, []string{"--data-dir", "x"}, "unknown flag: --data-dir"},
		{"setting of no role", newGateway, whole + "intrenal: a:1\n", nil, "did you mean internal?"},
		{"wrong value of another role's setting", newGateway, "log: { type: kafka, brokers: [a:1] }\nfree_space_floor: many\n", nil, "free_space_floor"},
		// What a role does not use is ignored: it gets as far as the brokers, which do not answer.
		{"gateway with all settings", newGateway, whole, []string{"--start-timeout", "100ms"}, "reach Kafka at 127.0.0.1:1"},
		{"worker with all settings", newConsume, whole, []string{"--start-timeout", "100ms", "--data-dir", t.TempDir(), "--admin", "127.0.0.1:0"}, "reach Kafka at 127.0.0.1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := tt.role()
			c.SetOut(io.Discard)
			c.SetErr(io.Discard)
			c.SilenceUsage, c.SilenceErrors = true, true
			args := append([]string{"--config", writeFile(t, t.TempDir(), "headwater.yaml", tt.file)}, tt.args...)
			if c.Name() == "gateway" && !strings.Contains(tt.want, "unknown") {
				args = append(args, "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0")
			}
			c.SetArgs(args)
			if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, not one with %q", err, tt.want)
			}
		})
	}
}

// TestAStartThatIsStopped: who stops a process that waits for its brokers has not met a failure.
func TestAStartThatIsStopped(t *testing.T) {
	t.Parallel()
	c := newGateway()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(io.Discard)
	c.SetArgs([]string{"--kafka-brokers", "127.0.0.1:1", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("stopped"))
	defer cancel()
	interrupted, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, stop) // as a signal does
	if err := c.ExecuteContext(interrupted); err != nil || !strings.Contains(out.String(), "stopped while it was starting") {
		t.Errorf("%v, and it says %q", err, out.String())
	}
}
