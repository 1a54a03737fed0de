"""ci/spinnaker/: what is shipped for Spinnaker fits together, and says what the tests' Orca goes by."""
import json
import re
import sys
from pathlib import Path

import yaml

root = Path(sys.argv[1])
folder = root / "ci" / "spinnaker"
stages = ["plan", "dry-run", "replicate", "approve", "cutover", "verify", "rollback", "finish"]
hooks = {h["type"]: h for h in yaml.safe_load((folder / "preconfigured-webhooks.yml").read_text())["webhook"]["preconfigured"]}
assert len(hooks) == len(stages), hooks.keys()
oracle = (root / "tests/it/harness/orca.c").read_text()
for name in stages:
    hook = hooks["gybe" + "".join(word.capitalize() for word in name.split("-"))]
    address = f"https://gybe.example.com/v1/spinnaker/${{execution['id']}}/{name}"
    assert hook["url"].startswith(address + "?migration="), hook["url"]
    assert hook["cancelEndpoint"].startswith(address + "/cancel?migration="), hook["cancelEndpoint"]
    assert hook["method"] == hook["cancelMethod"] == "POST" and hook["signalCancellation"]
    assert hook["statusUrlResolution"] == "locationHeader" and hook["waitForCompletion"]
    assert (hook["statusJsonPath"], hook["progressJsonPath"]) == ("$.status", "$.progress")
    assert hook["successStatuses"] == "SUCCEEDED" and hook["canceledStatuses"] == "CANCELED"
    assert f'"{hook["terminalStatuses"]}"' in oracle, hook["terminalStatuses"]
    body = re.sub(r"\$\{[^}]*\}", '"x"', hook["payload"])
    keys = set(json.loads(body))
    assert keys == {"run", "repository", "revision", "migration", "application", "user", "stageId"}, keys
    assert ":" not in "".join(re.findall(r"\$\{([^}]*)\}", hook["payload"])), "a colon is Spring's default"

for file in ["pipeline-gybe-gate.json", "pipeline-manual-judgment.json", "template.json"]:
    pipeline = json.loads((folder / file).read_text())
    pipeline = pipeline.get("pipeline", pipeline)
    by_name = {stage["name"]: stage for stage in pipeline["stages"]}
    refs = [stage["refId"] for stage in pipeline["stages"]]
    assert len(set(refs)) == len(refs)
    for stage in pipeline["stages"]:
        assert set(stage["requisiteStageRefIds"]) <= set(refs)
        if stage["type"].startswith("gybe"):
            assert stage["alias"] == "preconfiguredWebhook" and stage["type"] in hooks
            assert set(stage["parameterValues"]) == {p["name"] for p in hooks[stage["type"]]["parameters"]}
            assert stage["stageTimeoutMs"] > 0
    verify, rollback = by_name["Verify"], by_name["Rollback"]
    assert verify["failPipeline"] is False and verify["continuePipeline"] is True
    assert rollback["stageEnabled"]["expression"] == "#stage('Verify')['status'].toString() == 'FAILED_CONTINUE'"
    assert "gybeRun" in json.dumps(pipeline["parameterConfig"]) and "parameters['gybeRun']" in json.dumps(pipeline)
