use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, Compatibility, ContainerDefinition, LaunchType, LogConfiguration,
    LogDriver, NetworkConfiguration, NetworkMode, Task,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Engine, FargateConfig, ImageCommand};
use crate::awslocal::testing::{HOSTNAME, Ministack, client, wait_for};
use crate::awslocal::{Bootstrapped, REGION};

const IMAGE: &str = "test/shell:local";
const LIMIT: Duration = Duration::from_secs(30);

/// An ECS endpoint over an engine whose one image is a shell.
struct World {
    // Dropped first: containers end before the endpoint that started them.
    engine: Engine,
    ecs: aws_sdk_ecs::Client,
    made: Bootstrapped,
    ministack: Ministack,
}

impl World {
    async fn start() -> Self {
        let ministack = Ministack::start().await;
        let credentials = ministack.credentials().await;
        let shell = ImageCommand {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "exit 0".into()],
            env: BTreeMap::new(),
        };
        let ecs = aws_sdk_ecs::Client::new(&credentials.root_config());
        let engine = Engine::start(FargateConfig {
            socket: ministack.socket(),
            run_dir: ministack.dir.join("containers"),
            images: BTreeMap::from([(IMAGE.to_owned(), shell)]),
            aws_endpoint: "http://127.0.0.1:9".to_owned(),
            region: REGION.to_owned(),
            self_name: HOSTNAME.to_owned(),
            credentials,
        });
        let engine = engine.await.unwrap();
        let made = ministack.bootstrap().await;
        Self { engine, ecs, made, ministack }
    }

    fn file(&self, name: &str) -> String {
        self.ministack.dir.join(name).display().to_string()
    }

    /// A task definition whose container runs a shell script.
    async fn define(&self, family: &str, script: &str, stop_timeout: i32) {
        let log = LogConfiguration::builder()
            .log_driver(LogDriver::Awslogs)
            .options("awslogs-group", "/dagwright/test/workers")
            .options("awslogs-region", REGION)
            .options("awslogs-stream-prefix", "worker");
        let container = ContainerDefinition::builder()
            .name("worker")
            .image(IMAGE)
            .essential(true)
            .stop_timeout(stop_timeout)
            .set_command(Some(vec!["-c".into(), script.into()]))
            .log_configuration(log.build().unwrap())
            .build();
        let register = self.ecs.register_task_definition().family(family).container_definitions(container);
        let register =
            register.network_mode(NetworkMode::Awsvpc).requires_compatibilities(Compatibility::Fargate);
        let register = register.cpu("256").memory("512").task_role_arn(&self.made.role_arns["worker-task"]);
        register.send().await.unwrap();
    }

    fn network(&self) -> NetworkConfiguration {
        let vpc = AwsVpcConfiguration::builder()
            .set_subnets(Some(self.made.subnets.clone()))
            .set_security_groups(Some(self.made.security_groups.clone()))
            .assign_public_ip(AssignPublicIp::Disabled);
        NetworkConfiguration::builder().awsvpc_configuration(vpc.build().unwrap()).build()
    }

    async fn run(&self, family: &str) -> String {
        let run = self
            .ecs
            .run_task()
            .cluster(&self.made.cluster)
            .task_definition(family)
            .launch_type(LaunchType::Fargate);
        let answer = run.network_configuration(self.network()).send().await.unwrap();
        answer.tasks()[0].task_arn().unwrap().to_owned()
    }

    async fn task(&self, arn: &str) -> Task {
        let answer = self.ecs.describe_tasks().cluster(&self.made.cluster).tasks(arn).send().await.unwrap();
        answer.tasks()[0].clone()
    }

    async fn wait_status(&self, arn: &str, wanted: &str) -> Task {
        wait_for(&format!("task to be {wanted}"), LIMIT, async || {
            let task = self.task(arn).await;
            if task.last_status() == Some(wanted) { Ok(task) } else { Err(format!("{task:?}")) }
        })
        .await
    }

    async fn wait_processes(&self, count: usize) -> BTreeMap<String, u32> {
        wait_for(&format!("{count} processes"), LIMIT, async || {
            let processes = self.engine.processes();
            if processes.len() == count { Ok(processes) } else { Err(format!("{processes:?}")) }
        })
        .await
    }

    /// The script's output, once it contains `wanted`.
    async fn output(&self, arn: &str, wanted: &str) -> String {
        let task = &arn.rsplit('/').next().unwrap()[..8];
        let path = self.ministack.dir.join("containers").join(format!("ministack-ecs-{task}-worker.log"));
        wait_for(&format!("{wanted:?} in the output"), LIMIT, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains(wanted) { Ok(text) } else { Err(text) }
        })
        .await
    }
}

fn alive(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
}

#[tokio::test]
async fn a_task_runs_to_its_exit_code_with_its_output_in_the_log_group() {
    let world = World::start().await;
    world.define("exit", "echo out; echo err >&2; exit 3", 30).await;
    let arn = world.run("exit").await;
    let task = world.wait_status(&arn, "STOPPED").await;
    assert_eq!(task.containers()[0].exit_code(), Some(3));
    assert_eq!(
        task.stop_code().map(aws_sdk_ecs::types::TaskStopCode::as_str),
        Some("EssentialContainerExited")
    );
    let details = task.attachments()[0].details();
    assert!(details.iter().any(|d| d.name() == Some("privateIPv4Address")), "{details:?}");
    let logs = aws_sdk_cloudwatchlogs::Client::new(&world.ministack.credentials().await.root_config());
    wait_for("both lines in the log group", LIMIT, async || {
        let events = logs.filter_log_events().log_group_name("/dagwright/test/workers").send().await.unwrap();
        let lines: Vec<_> = events.events().iter().filter_map(|e| e.message().map(str::to_owned)).collect();
        if lines == ["out", "err"] { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .await;
    world.engine.shutdown().await;
}

#[tokio::test]
async fn a_service_replaces_a_killed_process_and_scales_to_nothing() {
    let world = World::start().await;
    world.define("service", "while :; do sleep 0.1; done", 2).await;
    let create =
        world.ecs.create_service().cluster(&world.made.cluster).service_name("dw-test").desired_count(2);
    let create = create.task_definition("service").launch_type(LaunchType::Fargate);
    create.network_configuration(world.network()).send().await.unwrap();
    let before = world.wait_processes(2).await;
    let (name, victim) = before.iter().next().unwrap();
    kill(Pid::from_raw(i32::try_from(*victim).unwrap()), Signal::SIGKILL).unwrap();
    let after = wait_for("a replacement", LIMIT, async || {
        let now = world.engine.processes();
        if now.len() == 2 && !now.contains_key(name) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    let scale = world.ecs.update_service().cluster(&world.made.cluster).service("dw-test").desired_count(0);
    scale.send().await.unwrap();
    world.wait_processes(0).await;
    assert!(after.values().all(|pid| !alive(*pid)));
}

#[tokio::test]
async fn a_task_has_the_time_of_its_definition_to_drain() {
    let world = World::start().await;
    let drained = world.file("drained");
    // Longer than the five seconds that the endpoint gives by itself.
    let script = format!(
        "trap 'sleep 6; echo done > {drained}; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    );
    world.define("drain", &script, 60).await;
    world.define("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.1; done", 2).await;
    let (drain, stubborn) = tokio::join!(world.run("drain"), world.run("stubborn"));
    world.output(&drain, "ready").await;
    world.output(&stubborn, "ready").await;
    for arn in [&drain, &stubborn] {
        world.ecs.stop_task().cluster(&world.made.cluster).task(arn).send().await.unwrap();
    }
    let left = world.wait_processes(1).await;
    assert!(left.keys().all(|name| name.contains(&drain.rsplit('/').next().unwrap()[..8])), "{left:?}");
    world.wait_processes(0).await;
    assert_eq!(std::fs::read_to_string(drained).unwrap(), "done\n");
}

#[tokio::test]
async fn a_task_sees_its_role_and_no_other_key() {
    let world = World::start().await;
    world.define("env", "env; echo end-of-env; sleep 600", 1).await;
    let arn = world.run("env").await;
    let text = world.output(&arn, "end-of-env").await;
    let env: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(env["AWS_ENDPOINT_URL"], "http://127.0.0.1:9");
    assert_eq!(env["AWS_REGION"], REGION);
    assert!(
        !env.keys().any(|key| key.starts_with("AWS_ACCESS_KEY") || key.starts_with("AWS_SECRET")),
        "{env:?}"
    );
    assert!(env["ECS_CONTAINER_METADATA_URI_V4"].starts_with("http://127.0.0.1:"), "{env:?}");
    let client = client();
    let keys = client
        .get(env["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        .header("authorization", env["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
        .send();
    let keys: serde_json::Value = keys.await.unwrap().json().await.unwrap();
    assert_eq!(keys["RoleArn"], world.made.role_arns["worker-task"].as_str());
    world.engine.shutdown().await;
}

#[tokio::test]
async fn an_engine_that_starts_again_ends_what_it_left_behind() {
    let ministack = Ministack::start().await;
    let credentials = ministack.credentials().await;
    let shell = ImageCommand { program: "/bin/sleep".into(), args: vec!["600".into()], env: BTreeMap::new() };
    let config = FargateConfig {
        socket: ministack.socket(),
        run_dir: ministack.dir.join("containers"),
        images: BTreeMap::from([(IMAGE.to_owned(), shell)]),
        aws_endpoint: ministack.endpoint.clone(),
        region: REGION.to_owned(),
        self_name: HOSTNAME.to_owned(),
        credentials,
    };
    let first = Engine::start(config.clone()).await.unwrap();
    let docker = Docker::new(&ministack);
    let id = docker.create("one", IMAGE).await.unwrap();
    docker.post(&format!("/containers/{id}/start")).await.unwrap();
    let pid = first.processes()["one"];
    // As after `kill -9`: nobody stops the containers.
    std::mem::forget(first);
    let second = Engine::start(config).await.unwrap();
    wait_for("the old process to be gone", LIMIT, async || {
        if alive(pid) { Err(format!("{pid} lives")) } else { Ok(()) }
    })
    .await;
    assert!(second.processes().is_empty());
}

#[tokio::test]
async fn an_interrupted_task_has_its_stop_timeout_and_reads_as_exited() {
    let world = World::start().await;
    let handed_back = world.file("handed-back");
    let script =
        format!("trap 'echo yes > {handed_back}; exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    world.define("spot", &script, 30).await;
    world.define("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.1; done", 1).await;
    let docker = Docker::new(&world.ministack);
    for (family, code) in [("spot", 0), ("stubborn", 137)] {
        let arn = world.run(family).await;
        world.output(&arn, "ready").await;
        let name = format!("ministack-ecs-{}-worker", &arn.rsplit('/').next().unwrap()[..8]);
        docker.post(&format!("/containers/{name}/interrupt")).await.unwrap();
        let task = world.wait_status(&arn, "STOPPED").await;
        assert_eq!(task.containers()[0].exit_code(), Some(code), "{family}");
    }
    assert_eq!(std::fs::read_to_string(handed_back).unwrap(), "yes\n");
    assert_eq!(docker.post("/containers/none/interrupt").await.unwrap_err().0, 404);
}

#[tokio::test]
async fn containers_follow_dockers_rules() {
    let world = World::start().await;
    let docker = Docker::new(&world.ministack);
    assert_eq!(docker.create("x", "test/none:1").await.unwrap_err().0, 404);
    assert_eq!(docker.create("../x", IMAGE).await.unwrap_err().0, 400);
    let id = docker.create("x", IMAGE).await.unwrap();
    assert_eq!(docker.create("x", IMAGE).await.unwrap_err().0, 409);
    docker.post(&format!("/v1.43/containers/{id}/start")).await.unwrap();
    let waited = docker.post("/containers/x/wait").await.unwrap();
    assert_eq!(waited["StatusCode"], 0);
    assert_eq!(docker.post(&format!("/containers/{id}/start")).await.unwrap_err().0, 400);
    assert_eq!(docker.post("/containers/none/start").await.unwrap_err().0, 404);
    let pulled = docker.post("/images/create?fromImage=test/none&tag=1").await.unwrap();
    assert!(pulled["error"].as_str().unwrap().contains("test/none:1"), "{pulled}");
    assert_eq!(docker.post("/containers/x/exec").await.unwrap_err().0, 501);
}

/// Speaks to the engine as the endpoint does.
struct Docker(reqwest::Client);

impl Docker {
    fn new(ministack: &Ministack) -> Self {
        Self(reqwest::Client::builder().unix_socket(ministack.socket()).build().unwrap())
    }

    async fn create(&self, name: &str, image: &str) -> Result<String, (u16, String)> {
        let url = format!("http://engine/containers/create?name={name}");
        let created = self.0.post(url).json(&serde_json::json!({ "Image": image })).send().await.unwrap();
        Self::read(created).await.map(|body| body["Id"].as_str().unwrap().to_owned())
    }

    async fn post(&self, path: &str) -> Result<serde_json::Value, (u16, String)> {
        Self::read(self.0.post(format!("http://engine{path}")).send().await.unwrap()).await
    }

    async fn read(answer: reqwest::Response) -> Result<serde_json::Value, (u16, String)> {
        let status = answer.status();
        let text = answer.text().await.unwrap();
        if !status.is_success() {
            return Err((status.as_u16(), text));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}
