-- The tables of CloudStack's database `cloud` that the daemon reads, as versions 4.11 to 4.23 have
-- them: names and types of the columns, without those that nobody here reads or needs.

CREATE TABLE data_center (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid varchar(40) UNIQUE,
  name varchar(255),
  allocation_state varchar(32),
  networktype varchar(255) NOT NULL DEFAULT 'Advanced',
  removed datetime
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE host (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid varchar(40) UNIQUE,
  name varchar(255) NOT NULL,
  status varchar(32) NOT NULL,
  type varchar(32) NOT NULL,
  private_ip_address char(40) NOT NULL,
  public_ip_address char(40),
  storage_ip_address char(40),
  data_center_id bigint unsigned NOT NULL,
  pod_id bigint unsigned,
  cluster_id bigint unsigned,
  version varchar(40) NOT NULL,
  mgmt_server_id bigint unsigned,
  last_ping int unsigned NOT NULL DEFAULT 0,
  disconnected datetime,
  created datetime,
  removed datetime,
  resource_state varchar(32) NOT NULL DEFAULT 'Enabled',
  hypervisor_type varchar(32),
  guid varchar(255) UNIQUE,
  KEY i_host__removed (removed),
  KEY i_host__data_center_id (data_center_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE vm_template (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid varchar(40) UNIQUE,
  name varchar(255) NOT NULL,
  unique_name varchar(255) NOT NULL,
  type varchar(32),
  hypervisor_type varchar(32),
  url varchar(255),
  state varchar(255),
  removed datetime
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE vm_instance (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid varchar(40) UNIQUE,
  name varchar(255) NOT NULL,
  instance_name varchar(255) NOT NULL,
  type varchar(32) NOT NULL,
  vm_type varchar(32) NOT NULL,
  state varchar(32) NOT NULL,
  vm_template_id bigint unsigned,
  private_ip_address char(40),
  pod_id bigint unsigned,
  data_center_id bigint unsigned NOT NULL,
  host_id bigint unsigned,
  last_host_id bigint unsigned,
  ha_enabled tinyint(1) NOT NULL DEFAULT 0,
  update_count bigint unsigned NOT NULL DEFAULT 0,
  update_time datetime,
  created datetime NOT NULL,
  removed datetime,
  hypervisor_type char(32),
  service_offering_id bigint unsigned,
  power_state varchar(74) DEFAULT 'PowerUnknown',
  power_state_update_time datetime,
  power_state_update_count int DEFAULT 0,
  power_host bigint unsigned,
  KEY i_vm_instance__removed (removed),
  KEY i_vm_instance__type (type)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE secondary_storage_vm (
  id bigint unsigned NOT NULL PRIMARY KEY,
  public_ip_address char(40) UNIQUE,
  guid varchar(255),
  nfs_share varchar(255),
  role varchar(64) NOT NULL DEFAULT 'templateProcessor',
  last_update datetime
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE console_proxy (
  id bigint unsigned NOT NULL PRIMARY KEY,
  public_ip_address char(40) UNIQUE,
  active_session int NOT NULL DEFAULT 0,
  last_update datetime,
  session_details blob
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE nics (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  instance_id bigint unsigned,
  device_id int,
  ip4_address char(40),
  mac_address varchar(17),
  gateway varchar(15),
  network_id bigint unsigned NOT NULL,
  reserver_name varchar(64),
  state varchar(32),
  removed datetime,
  KEY fk_nics__instance_id (instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE async_job (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid varchar(40) UNIQUE,
  job_cmd varchar(255),
  instance_type varchar(64),
  instance_id bigint unsigned,
  job_status int NOT NULL,
  job_result_code int NOT NULL DEFAULT 0,
  job_result text,
  created datetime,
  last_updated datetime,
  last_polled datetime,
  removed datetime,
  job_dispatcher varchar(64),
  KEY i_async__instance_type_id (instance_type, instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;

CREATE TABLE vm_work_job (
  id bigint unsigned NOT NULL PRIMARY KEY,
  step char(32) NOT NULL,
  vm_type char(32) NOT NULL,
  vm_instance_id bigint unsigned NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
