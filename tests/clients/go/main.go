// A round trip with the client of oapi-codegen.
//
// Usage: roundtrip URL DAY, where DAY is a date of the topic flights.
// STRANDLINE_TOKEN is sent if it is set.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"strandline.test/roundtrip/client"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: roundtrip URL DAY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(url, day string) error {
	start, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return err
	}
	api, err := client.NewClientWithResponses(url, client.WithRequestEditorFn(authorize))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := lookAtSnapshot(ctx, api, start); err != nil {
		return fmt.Errorf("a snapshot: %w", err)
	}
	if err := lookAtPlan(ctx, api, start); err != nil {
		return fmt.Errorf("a plan: %w", err)
	}
	return beRefused(ctx, api, start)
}

func authorize(_ context.Context, request *http.Request) error {
	if token := os.Getenv("STRANDLINE_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

func request(topic string, start time.Time, end time.Time) client.SnapshotRequest {
	labels := map[string]string{"client": "go"}
	return client.SnapshotRequest{Topic: topic, WindowStart: start, WindowEnd: end, Labels: &labels}
}

func lookAtSnapshot(ctx context.Context, api *client.ClientWithResponses, start time.Time) error {
	end, wait := start.AddDate(0, 0, 1), 60
	asked, err := api.CreateSnapshotWithResponse(ctx, nil, request("flights", start, end))
	if err != nil {
		return err
	}
	if asked.JSON202 == nil || asked.HTTPResponse.Header.Get("Location") == "" {
		return fmt.Errorf("not accepted: %s %s", asked.Status(), asked.Body)
	}
	id := asked.JSON202.Id
	got, err := api.GetSnapshotWithResponse(ctx, id, &client.GetSnapshotParams{Wait: &wait})
	if err != nil {
		return err
	}
	snapshot := got.JSON200
	if snapshot == nil || snapshot.State != client.StateSucceeded || snapshot.Result == nil {
		return fmt.Errorf("no success: %s", got.Body)
	}
	labels, states := []string{"client:go"}, []client.State{client.StateSucceeded}
	page, err := api.ListSnapshotsWithResponse(ctx, &client.ListSnapshotsParams{Label: &labels, State: &states})
	if err != nil {
		return err
	}
	if page.JSON200 == nil || len(page.JSON200.Items) != 1 || page.JSON200.Items[0].Id != id {
		return fmt.Errorf("not listed: %s", page.Body)
	}
	return lookAtParts(ctx, api, start, id, snapshot.Result.Records)
}

func lookAtParts(ctx context.Context, api *client.ClientWithResponses, start time.Time, id uuid.UUID, records int64) error {
	partitions, err := api.ListSnapshotPartitionsWithResponse(ctx, id, nil)
	if err != nil {
		return err
	}
	files, err := api.ListSnapshotFilesWithResponse(ctx, id, nil)
	if err != nil {
		return err
	}
	if partitions.JSON200 == nil || files.JSON200 == nil {
		return fmt.Errorf("no parts: %s %s", partitions.Body, files.Body)
	}
	var inPartitions, inFiles int64
	for _, partition := range partitions.JSON200.Items {
		inPartitions += partition.Records
	}
	for _, file := range files.JSON200.Items {
		inFiles += file.RecordsInWindow
	}
	if records == 0 || inPartitions != records || inFiles != records {
		return fmt.Errorf("%d records, %d in partitions, %d in files", records, inPartitions, inFiles)
	}
	limit := 2
	events, err := api.StreamSnapshotEventsWithResponse(ctx, id, &client.StreamSnapshotEventsParams{Limit: &limit})
	if err != nil {
		return err
	}
	if lines := strings.Count(string(events.Body), "\n"); lines != 2 {
		return fmt.Errorf("%d events: %s", lines, events.Body)
	}
	topics, err := api.ListTopicsWithResponse(ctx, nil)
	if err != nil {
		return err
	}
	if topics.JSON200 == nil || len(topics.JSON200.Items) == 0 {
		return fmt.Errorf("no topics: %s", topics.Body)
	}
	span := client.GetTopicCoverageParams{From: start, To: start.AddDate(0, 0, 1)}
	coverage, err := api.GetTopicCoverageWithResponse(ctx, "flights", &span)
	if err != nil {
		return err
	}
	if coverage.JSON200 == nil || !coverage.JSON200.Complete {
		return fmt.Errorf("not covered: %s", coverage.Body)
	}
	return nil
}

func lookAtPlan(ctx context.Context, api *client.ClientWithResponses, start time.Time) error {
	dry := true
	answer, err := api.CreateSnapshotWithResponse(ctx, &client.CreateSnapshotParams{DryRun: &dry},
		request("flights", start, start.AddDate(0, 0, 1)))
	if err != nil {
		return err
	}
	plan := answer.ApplicationvndStrandlinePlanJSON200
	if plan == nil || plan.OffsetsStored == 0 || plan.OffsetsToRead != 0 {
		return fmt.Errorf("%s", answer.Body)
	}
	return nil
}

func beRefused(ctx context.Context, api *client.ClientWithResponses, start time.Time) error {
	empty, err := api.CreateSnapshotWithResponse(ctx, nil, request("flights", start, start))
	if err != nil {
		return err
	}
	if problem := empty.ApplicationproblemJSON422; problem == nil || problem.Code != "WINDOW_INVALID" {
		return fmt.Errorf("an empty window: %s", empty.Body)
	}
	unknown, err := api.GetSnapshotWithResponse(ctx, uuid.MustParse("00000000-0000-4000-8000-000000000000"), nil)
	if err != nil {
		return err
	}
	if problem := unknown.ApplicationproblemJSON404; problem == nil || problem.Code != "NOT_FOUND" {
		return fmt.Errorf("an unknown snapshot: %s", unknown.Body)
	}
	wait := 60
	failed, err := api.CreateSnapshotWithResponse(ctx, &client.CreateSnapshotParams{Wait: &wait},
		request("not-there", start, start.AddDate(0, 0, 1)))
	if err != nil {
		return err
	}
	snapshot := failed.JSON200
	if snapshot == nil || snapshot.State != client.StateFailed || snapshot.Error.Code != "TOPIC_NOT_FOUND" {
		return fmt.Errorf("a topic that is not there: %s", failed.Body)
	}
	result, err := api.GetSnapshotResultWithResponse(ctx, snapshot.Id, nil)
	if err != nil {
		return err
	}
	if problem := result.ApplicationproblemJSON409; problem == nil || problem.Error.Code != "TOPIC_NOT_FOUND" {
		return fmt.Errorf("the result of a failed snapshot: %s", result.Body)
	}
	return nil
}
