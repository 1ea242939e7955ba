// A benchmark client that kills the last slave and revives it on an emptied disk.
//
//	client MASTER [SLAVE,SLAVE...]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// door reaches what SYNDICATE_SOCKET names, whatever host a request is for.
var door = http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", os.Getenv("SYNDICATE_SOCKET"))
	},
}}

// fault is what there is to know of one; more is in the answer.
type fault struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	AppliedAt string `json:"applied_at"`
}

// post sends a value and decodes the answer; a refusal is an error.
func post(path string, value, answer any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	response, err := door.Post("http://door"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Error struct{ Code, Message string }
		}
		if err := json.NewDecoder(response.Body).Decode(&refusal); err != nil {
			return fmt.Errorf("%s: %s", path, response.Status)
		}
		return fmt.Errorf("%s: %s", refusal.Error.Code, refusal.Error.Message)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func hurt(victim string) error {
	var killed, revived fault
	if err := post("/v1/faults/kill", map[string]any{"ip": victim}, &killed); err != nil {
		return err
	}
	fmt.Println(killed.ID, victim, "is dead since", killed.AppliedAt)
	order := map[string]any{"ip": victim, "with_disk": false}
	if err := post("/v1/faults/revive", order, &revived); err != nil {
		return err
	}
	fmt.Println(revived.ID, victim, "runs again since", revived.AppliedAt)
	return nil
}

func main() {
	victim := os.Args[1]
	if len(os.Args) > 2 {
		slaves := strings.Split(os.Args[2], ",")
		victim = slaves[len(slaves)-1]
	}
	result := map[string]any{"passed": true, "notes": "killed and revived " + victim}
	if err := hurt(victim); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		result = map[string]any{"passed": false, "notes": err.Error()}
	}
	if err := post("/v1/finish", result, &map[string]any{}); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
