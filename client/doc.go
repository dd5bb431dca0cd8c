// Package client is the Go client of Headwater.
//
//	c, err := client.Dial("127.0.0.1:7081", client.Config{})
//	...
//	defer c.Close()
//	kv := c.KV("demo-kv")
//	res, err := kv.Put(ctx, "user/42", "profile", []byte(`{"n":1}`))
//	item, err := kv.Get(ctx, "user/42", "profile")
//
// # What it guarantees
//
// A write that returns without an error is as durable as WriteResult.Durability
// says. A write that fails says in Error.Outcome whether it was not applied or
// may have been, and carries its token: the same call with WriteOptions.Token
// set to it has its effect once, however often it is sent.
//
// Every write gets a token before its first attempt and keeps it through all
// attempts. A failure that a retry can mend is retried, with backoff and no
// sooner than the server asks, until the context is done (Config.Timeout when it
// has no deadline); any other is returned at once. Where an attempt may have
// been applied, no later failure is reported as not applied, unless the server's
// answer rules it out.
//
// A client reads its own writes, also through another connection or after a
// restart of the server: it remembers the position of what it wrote, per
// namespace, and reads wait for it (Config.NoSession turns that off). Clients do
// not share what they remember; hand WriteResult.Position to ReadOptions.After
// to read another client's write.
//
// Concurrent puts to a namespace share requests by themselves; each keeps its
// own token, answer, error and context. A lone put is sent at once.
//
// Concurrent adds to the counters of a namespace share requests too. Those that
// bring no token of their own go under the one of their request, so that a server
// remembers one token for many adds; see Counter.AddWith for what that means for
// an add that is given up. What is on its way is bounded (Config.AddQueue), adds
// beyond it wait, Counter.Stats shows it, and Close sends what is queued.
//
// Values above 1 MiB are uploaded in chunks and appear at once and as a whole.
// Values may be compressed (Config.Compression); reading undoes it, to at most
// MaxValueBytes.
//
// # What it does not
//
// Generation times increase strictly within one client, and above every version
// that it has read or been told of, but a client started again knows only the
// machine's clock. It does not send reads twice to hide a slow server (hedging):
// one address is one server. It does not authenticate itself beyond TLS.
//
// All methods of Client and of its handles are safe for concurrent use. Byte
// slices given to a method are not kept after it returns, those returned belong
// to the caller.
package client
