// Package deliveryhttp brings messages to HTTP endpoints.
//
// # What it guarantees
//
// An attempt is one request: the payload is its body, webhook-id, webhook-timestamp and webhook-signature are as
// Standard Webhooks has them (https://www.standardwebhooks.com), Idempotency-Key is the base64 of the message's nonce.
// 2xx is done. 408, 425, 429, 5xx and no answer in time are tried again, not before Retry-After. Everything else, a
// redirect too, is permanent. The address is looked at when a connection is made: a name that has moved to a private
// one is refused, unless the document allows it.
//
// # What it does not
//
// It follows no redirect and uses no proxy. Of an answer it reads what an error may say, and no more.
package deliveryhttp
