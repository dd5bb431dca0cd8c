package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// twoPorts are two ports in a row that are free now.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port
		}
	}
	t.Fatal("no two ports in a row are free")
	return 0
}

// TestEngineCluster starts a cluster on engines that are up, writes and reads through it, has it started once more, which
// changes nothing, and stops it.
func TestEngineCluster(t *testing.T) {
	enginetest.Need(t, brokersVariable, "kafka3")
	_, keyspace := enginetest.Keyspace(t)
	gateway, internal, admin := twoPorts(t), twoPorts(t), twoPorts(t)
	at := fmt.Sprintf("127.0.0.1:%d", gateway+1)
	flags := []string{
		"--engines=false", "--dir", t.TempDir(), "--topic-prefix", fmt.Sprintf("cluster%d", time.Now().UnixNano()), "--keyspace", keyspace,
		"--http", fmt.Sprintf("127.0.0.1:%d", gateway), "--grpc", at, "--admin", fmt.Sprintf("127.0.0.1:%d", twoPorts(t)),
		"--internal-port", fmt.Sprint(internal), "--worker-admin-port", fmt.Sprint(admin),
	}
	do := func(verb string) {
		t.Helper()
		if err := run(t.Context(), append(flags, verb)); err != nil {
			t.Fatalf("cluster %s: %v", verb, err)
		}
	}
	do("up")
	stopped := false
	defer func() {
		if !stopped {
			do("down")
		}
	}()
	c, err := client.Dial(at, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.KV("demo-kv").Put(t.Context(), "a", "b", []byte("value")); err != nil {
		t.Error(err)
	}
	if _, err := c.Counter("demo-counter").AddAndGet(t.Context(), "c", 3, client.AddAndGetOptions{}); err != nil {
		t.Error(err)
	}
	do("up")
	if a, err := c.Counter("demo-counter").AddAndGet(t.Context(), "c", 4, client.AddAndGetOptions{}); err != nil || a.Count.Value != 7 {
		t.Errorf("%+v, %v", a, err)
	}
	do("down")
	stopped = true
	if _, err := net.DialTimeout("tcp", at, time.Second); err == nil {
		t.Error("the gateway still listens")
	}
}
