package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"testing"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

// exampleTB is what clienttest needs of a test, for examples, which have none.
type exampleTB struct {
	testing.TB // nil: nothing else of it is called
	cleanups   []func()
}

func (t *exampleTB) Helper()                        {}
func (t *exampleTB) Cleanup(f func())               { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }
func (t *exampleTB) Errorf(format string, a ...any) { log.Fatalf(format, a...) }

func (t *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "headwater-example")
	if err != nil {
		log.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	})
	return dir
}

func (t *exampleTB) end() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

// exampleClient is a client of a server of its own. In an application it is
// client.Dial("127.0.0.1:7081", client.Config{}).
func exampleClient() (c *client.Client, done func()) {
	var t exampleTB
	c = clienttest.New(&t)
	return c, t.end
}

func Example() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	kv := c.KV("demo-kv")
	if _, err := kv.Put(ctx, "user/42", "name", []byte("Ada")); err != nil {
		log.Fatal(err)
	}
	it, err := kv.Get(ctx, "user/42", "name")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", it.Value)
	_, err = kv.Get(ctx, "user/42", "email")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// Ada
	// true
}

// A business key makes a write happen once, whoever sends it again, and when.
func ExampleKV_PutItems() {
	c, done := exampleClient()
	defer done()
	kv := c.KV("demo-kv")
	for range 2 {
		res, err := kv.PutItems(context.Background(), "order/7",
			[]client.PutItem{{Key: "state", Value: []byte("paid")}, {Key: "by", Value: []byte("card")}},
			client.WriteOptions{Token: client.Token{Key: "order-7-paid"}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(res.Durability, res.Duplicate)
	}
	// Output:
	// SYNC NO
	// SYNC YES
}

func ExampleKV_PutIfVersion() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	kv := c.KV("demo-kv")
	first, err := kv.PutIfAbsent(ctx, "seat/1A", "holder", []byte("Ada"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := kv.PutIfVersion(ctx, "seat/1A", "holder", []byte("Grace"), first.Versions[0]); err != nil {
		log.Fatal(err)
	}
	_, err = kv.PutIfVersion(ctx, "seat/1A", "holder", []byte("Edsger"), first.Versions[0])
	fmt.Println(errors.Is(err, client.ErrConditionFailed))
	// Output:
	// true
}

func ExampleKV_Items() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	kv := c.KV("demo-kv")
	var items []client.PutItem
	for _, day := range []string{"mon", "tue", "wed"} {
		items = append(items, client.PutItem{Key: day, Value: []byte("open")})
	}
	if _, err := kv.PutItems(ctx, "shop", items, client.WriteOptions{}); err != nil {
		log.Fatal(err)
	}
	for it, err := range kv.Items(ctx, "shop", client.ReadOptions{Descending: true, Range: &client.Range{Start: "n"}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", it.Key, it.Value)
	}
	// Output:
	// wed open
	// tue open
}

func ExampleLog_Tail() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	orders := c.Log("demo-log")
	for _, event := range []string{"placed", "paid"} {
		if _, err := orders.Write(ctx, "order/7", []byte(event)); err != nil {
			log.Fatal(err)
		}
	}
	for m, err := range orders.Tail(ctx, client.TailOptions{Key: new("order/7")}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", m.Key, m.Payload)
	}
	// Output:
	// order/7 placed
	// order/7 paid
}
